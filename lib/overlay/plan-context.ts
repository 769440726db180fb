/**
 * What a plan needs to know of this kernel and this process.
 * @module
 */
import { demandsMetacopy } from '../inspect/kernel.ts';
import { ownSource, unownedSource } from '../inspect/owner.ts';
import type { KernelFeatures } from '../native/binding.ts';
import type { CheckedOptions } from './options.ts';
import type { PlanContext } from './plan.ts';

/** Asks the kernel only what these options make it necessary to know. */
export async function planContext(options: CheckedOptions, features: KernelFeatures): Promise<PlanContext> {
  const asksVerity = options.verity !== undefined && options.verity !== 'off';
  const asksData = options.dataOnlyLower.length > 0;
  const demands =
    options.metacopy === undefined &&
    features.nativeParser &&
    ((asksVerity && (await demandsMetacopy('verity'))) ||
      (asksData && (await demandsMetacopy('dataOnlyLower'))));
  return { features, demandsMetacopy: demands, ownSource: ownSource(), unownedSource };
}
