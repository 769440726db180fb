/**
 * Why changes could not be applied.
 * @module
 */
import { constants } from 'node:os';
import { type ErrorCode, errorFinding, OverlayError, overlayError } from '../errors.ts';
import { explainInside } from '../layer/explain.ts';
import type { ConflictReason, NativeApplyFailure, NativeError, NativeRef } from '../native/binding.ts';
import { explainNative, isNativeError, nativeDetails, whatFailed } from '../native-errors.ts';
import { showPath, showRef } from '../paths.ts';
import type { Change } from './change.ts';

const { errno } = constants;
const SHOWN = 20;

/** Something in the target that is not as the before-view has it. */
export interface ApplyConflict {
  readonly change: Change;
  /**
   * `missing`: nothing is there; `exists`: something is, where the before-view has nothing; `type`: it is of another type;
   * `content`: of the same type with another content, or a directory that would go and holds something else; `metadata`:
   * mode, owner or extended attributes differ; `parent`: what leads there is missing, or no directory (a symbolic link,
   * perhaps), or a renamed directory that was left out; `mount`: something is mounted there, or on the way.
   */
  readonly reason: ConflictReason;
  /** Where, in the target: of a directory perhaps something in it. For people; `pathBytes` are the bytes. */
  readonly path: string;
  readonly pathBytes: Buffer;
  /** Whether `'apply'` can be answered. Not where something is mounted or no directory leads there. */
  readonly forcible: boolean;
}

/** What `ERR_OVERLAY_APPLY_HALF_DONE` says beyond its words. */
export interface ApplyHalfDone {
  /** The changes that are in the target nevertheless. */
  readonly applied: readonly Change[];
  /**
   * The directory that holds what could not be put back. It is yours, and no later run touches it, unless it is still called
   * `#overlayfs-apply`: the next call for the target tries again.
   */
  readonly left?: string;
}

/** How the target differs, to be read after the path. */
export const differences: Readonly<Record<ApplyConflict['reason'], string>> = {
  missing: 'is missing in the target',
  exists: 'is in the target, but was not in the lowers',
  type: 'is of another type in the target',
  content: 'has another content in the target',
  metadata: 'has another mode, owner or extended attributes in the target',
  parent: 'cannot be reached in the target: what leads there is missing or no directory',
  mount: 'is or holds a mount point in the target',
};

/** A finding for each conflict, the first twenty; nothing has been changed. */
export function conflictError(conflicts: readonly ApplyConflict[]): OverlayError {
  const fix = 'Decide with onConflict, or bring the target to what the lowers hold';
  const [first, ...more] = conflicts.slice(0, SHOWN).map(({ path, reason }) => {
    const others = conflicts.length > 1 ? `, and ${conflicts.length - 1} more differ` : '';
    return errorFinding('ERR_OVERLAY_APPLY_CONFLICT', `${path} ${differences[reason]}${others}`, fix, path);
  });
  return new OverlayError([first as NonNullable<typeof first>, ...more], { path: conflicts[0]?.path ?? '' });
}

const unopened: Readonly<Record<number, readonly [code: ErrorCode, what: string, fix: string]>> = {
  [errno.ENOENT]: [
    'ERR_OVERLAY_TARGET_NOT_FOUND',
    'does not exist',
    'Make it: a copy of the lower, such as `cp -a` makes',
  ],
  [errno.ENOTDIR]: ['ERR_OVERLAY_TARGET_NOT_DIRECTORY', 'is not a directory', 'Name a directory'],
  [errno.EWOULDBLOCK]: [
    'ERR_OVERLAY_TARGET_IN_USE',
    'is locked: changes are being applied to it',
    'Wait until the other call has ended',
  ],
};

/** Why the target could not be opened. */
export function explainTarget(error: unknown, target: NativeRef): unknown {
  if (!isNativeError(error)) return error;
  if (isReserved(error))
    return reserved(`the target ${showRef(target)} holds`, error, 'Move it out of the way');
  if (error.errno === -errno.EEXIST && error.syscall === 'renameat2') {
    return halfDone(
      `a run that was killed has left something in #overlayfs-apply that has no place any more (${whatFailed(error)})`,
      error,
      target,
      { applied: [], left: '#overlayfs-apply' },
    );
  }
  const [code, what, fix] = unopened[-error.errno] ?? [];
  if (code === undefined)
    return explainNative(error, 'ERR_OVERLAY_TARGET_UNREACHABLE', `the target ${showRef(target)}`);
  return overlayError(code, `the target ${showRef(target)} ${what}`, fix as string, {
    ...nativeDetails(error),
    path: showRef(target),
  });
}

/** Why the changes could not be looked at or carried out. */
export function explainApply(error: unknown, changes: readonly Change[], target?: NativeRef): unknown {
  if (!isNativeError(error)) return error;
  const { place, applied = [], left, edited, onOverlay } = error as Partial<NativeApplyFailure> & NativeError;
  const here = place?.length === 0 && Buffer.isBuffer(target) ? target : place;
  const path = here ?? error.path ?? Buffer.alloc(0);
  if (applied.length > 0 || (left !== undefined && left.length > 0)) {
    return halfDone(`${showPath(path)} failed, and not everything could be taken back`, error, target, {
      applied: applied.map((index) => changes[index] as Change),
      ...(left === undefined || left.length === 0 ? {} : { left: showPath(left) }),
    });
  }
  if (isReserved(error))
    return reserved(
      'the changes hold',
      error,
      'Leave it out with `include`, or give it another name in the overlay',
    );
  if (onOverlay === true && error.errno === -errno.EXDEV && error.syscall === 'renameat2') {
    return overlayError(
      'ERR_OVERLAY_TARGET_ON_OVERLAY',
      `${showPath(path)} lies on an overlay, whose lower holds that directory, and cannot be renamed there: ${whatFailed(error)}; everything has been taken back`,
      "Mount that overlay with redirectDir: 'on', or name a copy on another file system",
      { ...nativeDetails(error), path: showPath(path) },
    );
  }
  if (edited !== undefined) {
    const shown = edited.length === 0 ? '.' : showPath(edited);
    return overlayError(
      'ERR_OVERLAY_APPLY_CONFLICT',
      `${shown} has been changed in the target since it was compared; everything has been taken back`,
      'Call again when nothing else writes to the target',
      { ...nativeDetails(error), path: shown },
    );
  }
  if ([errno.ENOSPC, errno.EDQUOT].includes(-error.errno)) {
    return overlayError(
      'ERR_OVERLAY_NO_SPACE',
      `there is no room for ${showPath(path)}: ${whatFailed(error)}; nothing has been changed`,
      'Make room: what is new is copied before what is old goes',
      { ...nativeDetails(error), path: showPath(path) },
    );
  }
  return explainInside(error, path);
}

// What the directory of a run would be called has another maker.
const isReserved = ({ errno: number, syscall }: NativeError): boolean =>
  number === -errno.EEXIST && syscall === 'mkdirat';

function reserved(what: string, error: NativeError, fix: string): OverlayError {
  const path = showPath(error.path ?? error.arguments);
  return overlayError(
    'ERR_OVERLAY_RESERVED_NAME',
    `${what} ${path}, a name that applyChanges() has for what it works with`,
    fix,
    { ...nativeDetails(error), path },
  );
}

function halfDone(
  what: string,
  error: NativeError,
  target: NativeRef | undefined,
  { applied, left }: ApplyHalfDone,
): OverlayError & ApplyHalfDone {
  const where = target === undefined || typeof target === 'number' ? '' : `${showPath(target)}/`;
  const rest = left === undefined ? {} : { left: `${where}${left}` };
  const made = overlayError(
    'ERR_OVERLAY_APPLY_HALF_DONE',
    `${what}${left === undefined ? '' : `: what could not be put back lies in ${where}${left}`}`,
    'See `cause` for what failed and `applied` for what is there; put the rest where it belongs by hand',
    nativeDetails(error),
  );
  return Object.assign(made, { applied, ...rest });
}
