/**
 * What killed processes left mounted.
 * @module
 */

import { binding } from '../addon.ts';
import { closed } from '../arguments.ts';
import { invalidArgument } from '../errors.ts';
import { listOverlays, type MountedOverlay } from '../inspect/mount-table.ts';
import { type OwnerTag, ownerState } from '../inspect/owner.ts';
import { whileBusy } from './unmount.ts';

/** One overlay that names a process of this package as its owner. */
export interface OrphanResult {
  readonly target: string;
  readonly mountId: bigint;
  readonly owner: OwnerTag;
  /**
   * `unmounted`: its process is gone and so is it now. `orphan`: it would have been unmounted (`dryRun`). `alive`: its
   * process lives. `unknown`: its process belongs to another pid or time namespace, and it has not been touched.
   * `failed`: see `error`.
   */
  readonly state: 'unmounted' | 'orphan' | 'alive' | 'unknown' | 'failed';
  readonly error?: unknown;
}

/**
 * Unmounts the overlays that processes killed meanwhile have left attached. Acts only on mounts whose source names a
 * process of this very pid and time namespace that no longer lives, never lazily, and re-checks the mount's unique id;
 * mounts with `keepOnExit` or a `source` of the caller's own name no process and are not looked at.
 *
 * @example
 * ```ts
 * import { unmountOrphans } from 'overlayfs';
 *
 * for (const { target, state } of await unmountOrphans()) console.log(state, target);
 * ```
 */
export async function unmountOrphans(options: { readonly dryRun?: boolean } = {}): Promise<OrphanResult[]> {
  const { dryRun = false } = closed(options, 'options', ['dryRun']);
  if (typeof dryRun !== 'boolean') throw invalidArgument('dryRun', dryRun, 'must be a boolean');
  const results: OrphanResult[] = [];
  // Newest first: an overlay may lie over or below another.
  for (const overlay of (await listOverlays()).reverse()) {
    if (overlay.process !== undefined) results.push(await sweep(overlay, overlay.process, dryRun));
  }
  return results;
}

async function sweep(overlay: MountedOverlay, owner: OwnerTag, dryRun: boolean): Promise<OrphanResult> {
  const { target, targetBytes, mountId, uniqueIds } = overlay;
  const result = { target, mountId, owner };
  const state = ownerState(owner);
  if (state !== 'gone') return { ...result, state };
  // Without unique ids the number may be another mount's by the time it is unmounted.
  if (!uniqueIds) return { ...result, state: 'unknown' };
  if (dryRun) return { ...result, state: 'orphan' };
  try {
    await whileBusy({ mountId, target }, { timeout: 0 }, () => binding().unmountById(mountId, targetBytes));
    return { ...result, state: 'unmounted' };
  } catch (error) {
    return { ...result, state: 'failed', error };
  }
}
