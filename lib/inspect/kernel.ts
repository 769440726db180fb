/**
 * What this kernel can do for this process: asked once, by trying.
 * @module
 */

import { binding } from '../addon.ts';
import type { KernelFeatures, Rung } from '../native/binding.ts';
import { explained } from '../native-errors.ts';

let known: { readonly euid: number | undefined; readonly features: Promise<KernelFeatures> } | undefined;

/** The kernel's features; asked again after the process has changed its user. */
export function kernelFeatures(): Promise<KernelFeatures> {
  const euid = process.geteuid?.();
  if (known === undefined || known.euid !== euid) {
    const features = explained(binding().kernelFeatures(), 'what this kernel can do');
    known = { euid, features };
    features.catch(() => {
      known = undefined;
    });
  }
  return known.features;
}

/** The ways in which this kernel can be asked whether a directory is in use, best first. */
export function probeRungs({ layerFds, lowerdirAppend }: KernelFeatures): readonly Rung[] {
  return [
    ...(layerFds === 'none' ? [] : (['layer-fds'] as const)),
    ...(lowerdirAppend ? (['layer-names'] as const) : []),
    'mount',
  ];
}

const demands = new Map<string, Promise<boolean>>();

/** Whether this kernel takes `verity`, or data-only layers, only together with `metacopy=on` (before Linux 6.16). */
export function demandsMetacopy(option: 'verity' | 'dataOnlyLower'): Promise<boolean> {
  let demand = demands.get(option);
  if (demand === undefined) {
    demand = tryWithoutMetacopy(option);
    demands.set(option, demand);
  }
  return demand;
}

async function tryWithoutMetacopy(option: 'verity' | 'dataOnlyLower'): Promise<boolean> {
  const options: (readonly [string, string])[] = [['metacopy', 'off']];
  if (option === 'verity') options.push(['verity', 'on']);
  try {
    return (await binding().tryCreate(options, option === 'dataOnlyLower')) !== 0;
  } catch {
    demands.delete(option); // it could not be tried: ask again another time
    return false;
  }
}
