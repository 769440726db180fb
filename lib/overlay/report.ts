/**
 * What was done, as opposed to planned: nothing falls back, degrades or goes unchecked in silence.
 * @module
 */
import type { NativeAttempt, NativeMounted, Rung } from '../native/binding.ts';
import { whatFailed } from '../native-errors.ts';
import type { Finding } from '../types.ts';
import { inUseUnknown, optionIgnored, type PreparedPlan } from './plan.ts';

/** How an overlay came to be. */
export interface MountReport {
  /**
   * The way in which the kernel took it: `layer-fds`, fsconfig(2) with layers as descriptors (Linux 6.13);
   * `layer-names`, fsconfig(2) with `lowerdir+` (6.7); `joined-names`, fsconfig(2) with one `lowerdir`; `mount`,
   * mount(2); `mount-fd-names`, mount(2) with layers as descriptor numbers.
   */
  readonly rung: Rung;
  /** The better ways that this kernel turned out not to have, in the order in which they were tried. */
  readonly fallbacks: readonly { readonly rung: Rung; readonly reason: string }[];
  /** What the kernel ignores or cannot do here. */
  readonly degradations: readonly Finding[];
  /** What could not be checked. */
  readonly unverified: readonly Finding[];
  /** The parent mount was shared: copies of the overlay have appeared in its peers, and go with it. */
  readonly propagated: boolean;
  /** The target directory was made, and will be removed at unmount. */
  readonly madeTarget: boolean;
}

/** Makes the report of a mount that succeeded. */
export function mountReport(prepared: PreparedPlan, mounted: NativeMounted): MountReport {
  const unverified: Finding[] = prepared.degradations.filter(
    ({ code }) => code === 'WARN_OVERLAY_IN_USE_UNKNOWN',
  );
  if (mounted.inUseUnknown !== undefined && mounted.inUseUnknown !== '') {
    unverified.push(inUseUnknown(mounted.inUseUnknown));
  }
  if (!mounted.containmentVerified) {
    unverified.push({
      code: 'WARN_OVERLAY_CONTAINMENT_UNVERIFIED',
      severity: 'warning',
      detail:
        'a layer is on a mount outside this mount namespace, so whether upper or work lie inside it is not known',
      fix: 'Make sure that upper and work lie outside every lower',
    });
  }
  const degradations = prepared.degradations.filter((finding) => !unverified.includes(finding));
  if (mounted.withoutFileHandles) {
    degradations.push(
      optionIgnored(
        'index (and nfsExport)',
        'the file system of a layer has no file handles',
        'Leave them out, or use layers on ext4, xfs, btrfs or tmpfs',
      ),
    );
  }
  if (mounted.upperWithoutXattrs) {
    degradations.push({
      code: 'WARN_OVERLAY_UPPER_WITHOUT_XATTRS',
      severity: 'warning',
      ...(prepared.plan.upper === undefined ? {} : { path: prepared.plan.upper }),
      detail:
        'the file system of the upper has no extended attributes: directories of a lower cannot be removed or renamed',
      fix: 'Use an upper on ext4, xfs, btrfs or tmpfs',
    });
  }
  return {
    rung: mounted.rung,
    fallbacks: mounted.attempts.map((attempt) => ({ rung: attempt.rung, reason: fallbackReason(attempt) })),
    degradations,
    unverified,
    propagated: mounted.propagated,
    madeTarget: mounted.madeTarget,
  };
}

function fallbackReason(attempt: NativeAttempt): string {
  return attempt.kernel === undefined
    ? whatFailed(attempt)
    : `${whatFailed(attempt)} (${attempt.kernel.toString()})`;
}
