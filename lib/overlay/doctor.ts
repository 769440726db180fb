/**
 * What is wrong, or worth knowing, about a mount, before it is made.
 * @module
 */
import { dirname } from 'node:path/posix';
import { binding } from '../addon.ts';
import { errorFinding, OverlayError } from '../errors.ts';
import { kernelFeatures } from '../inspect/kernel.ts';
import type { DirectoryFacts, NativePlan, NativeRehearsal } from '../native/binding.ts';
import { explained, whatFailed } from '../native-errors.ts';
import type { Finding } from '../types.ts';
import { isSymbolicLink, type Layer, layerFacts } from './layer-facts.ts';
import { type CheckedOptions, checkOptions, type OverlayOptions } from './options.ts';
import { draftPlan, inUseUnknown } from './plan.ts';
import { planContext } from './plan-context.ts';
import { refusedOptions } from './refused-options.ts';
import { findings } from './rules.ts';
import { warnings } from './warning-rules.ts';

/**
 * Looks at everything that {@link mountOverlay} would be given, and tells all that is wrong with it and what is worth
 * knowing, errors first. Changes nothing: options and layers are handed to a file system context that is never created,
 * the lowers are tried in a throw-away read-only overlay, and whether upper and work are in use is asked of the kernel.
 *
 * @throws `TypeError` `ERR_INVALID_ARG_VALUE` for a wrong type, an unknown option or a NUL byte; never for a bad set-up.
 *
 * @example
 * ```ts
 * import { doctor } from 'overlayfs';
 *
 * for (const { severity, code, detail, fix } of await doctor({ lower: '/srv/base', upper: '/srv/up', work: '/srv/work' })) {
 *   console.log(`${severity}: ${code}: ${detail}. ${fix}.`);
 * }
 * ```
 */
export async function doctor(options: OverlayOptions): Promise<Finding[]> {
  const checked = checkOrFind(options);
  if (Array.isArray(checked)) return checked;
  const features = await kernelFeatures();
  const { problems, prepared } = draftPlan(checked, await planContext(checked, features));
  const { native } = prepared;
  const layers = await layerFacts(native);
  const rehearsal = problems.length === 0 && features.sysAdmin ? await rehearse(native) : undefined;
  const target =
    native.target === undefined ? undefined : await targetFacts(native.target, native.mkdirTarget);
  const evidence = {
    plan: native,
    features,
    layers,
    refusedOptions: await refusedOptions(native, features),
    ...(rehearsal === undefined ? {} : { rehearsal }),
    ...(rehearsal?.failure === undefined ? {} : { failure: rehearsal.failure }),
    ...(target === undefined ? {} : { target }),
  };
  const found = [...problems, ...findings(evidence)];
  if (rehearsal?.failure !== undefined && found.length === 0) {
    found.push(
      errorFinding(
        'ERR_OVERLAY_MOUNT_FAILED',
        whatFailed(rehearsal.failure),
        'The kernel log may say more (`dmesg | grep overlay`)',
      ),
    );
  }
  const unknown =
    rehearsal?.inUse === 'unknown' && native.checkInUse && native.upper !== undefined
      ? [inUseUnknown(rehearsal.inUseReason)]
      : [];
  const submounts = await explained(binding().mountsBelow(lowerPaths(layers)), 'the mount table');
  return [...found, ...unknown, ...prepared.degradations, ...warnings({ ...evidence, submounts })];
}

function checkOrFind(options: OverlayOptions): CheckedOptions | Finding[] {
  try {
    return checkOptions(options);
  } catch (error) {
    if (error instanceof OverlayError) return [...error.findings];
    throw error;
  }
}

// A layer that cannot be opened ends the rehearsal; the rules on the layers say so.
async function rehearse(plan: NativePlan): Promise<NativeRehearsal | undefined> {
  return binding()
    .rehearse(plan)
    .catch(() => undefined);
}

async function targetFacts(target: Buffer, mkdirTarget: boolean): Promise<DirectoryFacts | undefined> {
  const parent = Buffer.from(dirname(target.toString('latin1')), 'latin1');
  const [own, above] = await explained(binding().directoryFacts([target, parent]), 'the target');
  // A symbolic link to nothing is there for mkdir(2), and leads to nothing all the same.
  return own?.error !== undefined && mkdirTarget && !isSymbolicLink(target) ? above : own;
}

function lowerPaths(layers: readonly Layer[]): Buffer[] {
  return layers.flatMap(({ role, facts }) =>
    facts.error === undefined && (role === 'lower' || role === 'dataOnlyLower') ? [facts.canonicalPath] : [],
  );
}
