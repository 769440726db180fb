/**
 * Why nothing, or no more, is copied up.
 * @module
 */
import { constants } from 'node:os';
import { type ErrorCode, overlayError } from '../errors.ts';
import type { CopyUpRefusal } from '../native/binding.ts';
import { explainNative, isNativeError, nativeDetails } from '../native-errors.ts';
import type { Finding } from '../types.ts';
import { explainInside, explainLayer } from './explain.ts';

const { errno } = constants;

const refusals: Readonly<
  Record<
    Exclude<CopyUpRefusal, 'open-layer' | 'unwritable'>,
    readonly [code: ErrorCode, detail: string, fix: string]
  >
> = {
  'work-locked': [
    'ERR_OVERLAY_WORK_LOCKED',
    'another process that uses this package is at work on the work directory, or on the upper',
    'Wait until it has finished',
  ],
  'upper-in-use': [
    'ERR_OVERLAY_UPPER_IN_USE',
    'the upper is used by a live overlay, which must not be changed behind its back',
    "Use that overlay's own copyUp(), or unmount it first",
  ],
  'work-in-use': [
    'ERR_OVERLAY_WORK_IN_USE',
    'the work directory is used by a live overlay',
    'Unmount it first, or use the work directory that belongs to the upper',
  ],
  'work-on-other-mount': [
    'ERR_OVERLAY_WORK_ON_OTHER_MOUNT',
    'upper and work are on different mounts',
    'Put them side by side on one mount',
  ],
  'work-not-separate': [
    'ERR_OVERLAY_WORK_NOT_SEPARATE',
    'upper and work are one directory, or one lies inside the other: no kernel would mount them',
    'Put them side by side',
  ],
  'has-index': [
    'ERR_OVERLAY_HAS_INDEX',
    'the work directory has an index, or a hard link would need an entry in one: only the kernel keeps it',
    'Mount the overlay and use its own copyUp()',
  ],
  'work-needed': [
    'ERR_OVERLAY_WORK_NEEDED',
    'the upper is, or has been, written with an index, which is in the work directory',
    'Give `work`, the directory that belongs to the upper',
  ],
};

/** The error of what the native side refused or failed at. */
export function explainCopyUp(error: unknown): unknown {
  const { refusal } = error as { readonly refusal?: CopyUpRefusal };
  const details = isNativeError(error) ? nativeDetails(error) : {};
  if (refusal === 'open-layer') return explainLayer(error);
  if (refusal === 'unwritable') return explainUnwritable(error);
  if (refusal !== undefined) {
    const [code, detail, fix] = refusals[refusal];
    return overlayError(code, detail, fix, details);
  }
  return isNativeError(error) ? explainInside(error, error.path ?? Buffer.of()) : error;
}

function explainUnwritable(error: unknown): unknown {
  if (!isNativeError(error)) return error;
  const details = nativeDetails(error);
  const nothing = 'nothing can be made in the upper or its work directory';
  switch (-error.errno) {
    case errno.EROFS:
      return overlayError(
        'ERR_OVERLAY_UPPER_READONLY',
        `${nothing}: it is read-only`,
        'Remount it writable',
        details,
      );
    case errno.ENOSPC:
      return overlayError('ERR_OVERLAY_NO_SPACE', `${nothing}: no room is left`, 'Free some', details);
    case errno.EDQUOT:
      return overlayError(
        'ERR_OVERLAY_NO_SPACE',
        `${nothing}: a quota is used up`,
        'Free some, or have the quota raised',
        details,
      );
    default:
      return explainNative(error, 'ERR_OVERLAY_LAYER_UNREACHABLE', nothing);
  }
}

/** That nobody knows whether the upper is in use. */
export function inUseUnknown(reason: string): Finding {
  return {
    code: 'WARN_OVERLAY_IN_USE_UNKNOWN',
    severity: 'warning',
    detail: `whether a live overlay uses the upper or the work directory is not known: ${reason}`,
    fix: 'Make sure that nothing else has them mounted',
  };
}
