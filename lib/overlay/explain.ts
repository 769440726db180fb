/**
 * Makes an error of what the native side rejects with: looks at the layers and says why.
 * @module
 */
import { constants } from 'node:os';
import { errorFinding, OverlayError, type OverlayErrorDetails, overlayError } from '../errors.ts';
import type { KernelFeatures, NativeMountFailure, NativePlan } from '../native/binding.ts';
import {
  exiting,
  explainNative,
  isNativeError,
  nativeDetails,
  shownPath,
  whatFailed,
} from '../native-errors.ts';
import { showPath } from '../paths.ts';
import { layerFacts } from './layer-facts.ts';
import { whoUses } from './layer-users.ts';
import { refusedOptions } from './refused-options.ts';
import { findings } from './rules.ts';

/** Why a mount failed: the rules on what was tried, the layers as they are now, and the kernel's own words. */
export async function explainMountFailure(
  native: NativePlan,
  features: KernelFeatures,
  failure: unknown,
): Promise<unknown> {
  if (!isNativeError(failure)) return failure;
  if (failure.errno === -constants.errno.ECANCELED) return exiting(failure);
  const evidence = {
    plan: native,
    features,
    layers: await layerFacts(native),
    refusedOptions: await refusedOptions(native, features),
    failure: failure as NativeMountFailure,
  };
  const [first, ...rest] = findings(evidence);
  const why =
    first ??
    errorFinding('ERR_OVERLAY_MOUNT_FAILED', whatFailed(failure), kernelLogAdvice, shownPath(failure));
  const details = { ...nativeDetails(failure), ...(why.path === undefined ? {} : { path: why.path }) };
  // The error that it is for must not be lost to another.
  const use = await whoUses(why, evidence.layers).catch(() => undefined);
  if (use === undefined) return new OverlayError([why, ...rest], details);
  return new OverlayError([use.why, ...rest], { ...details, holders: use.holders });
}

const kernelLogAdvice = 'The kernel log may say more (`dmesg | grep overlay`)';

/** The error of a handle that stands for nothing any more. */
export function notMounted(name: string): OverlayError {
  return overlayError(
    'ERR_OVERLAY_NOT_MOUNTED',
    `the overlay ${name} has been unmounted`,
    'Use the handle before unmount()',
  );
}

/** The error of attaching what is attached. */
export function alreadyAttached(asked: Buffer): OverlayError {
  return overlayError(
    'ERR_OVERLAY_ALREADY_ATTACHED',
    'the overlay is attached already: a mount has one place',
    'Bind-mount it, or mount another',
    { path: showPath(asked) },
  );
}

/** The codes that a handle's methods end in when nothing more telling is known. */
export type HandleErrorCode = 'ERR_OVERLAY_UNREACHABLE' | 'ERR_OVERLAY_REMOUNT_FAILED';

/** Why a method of a handle failed. */
export function explainHandleFailure(error: unknown, name: string, otherwise: HandleErrorCode): unknown {
  if (!isNativeError(error)) return error;
  const { errno } = constants;
  const details = nativeDetails(error);
  if (error.errno === -errno.ENOENT) return notMounted(name);
  if (error.errno !== -errno.EBUSY) return explainNative(error, otherwise, name);
  return error.syscall === 'statx'
    ? covered(details)
    : overlayError(otherwise, `files in ${name} are open for writing`, 'Close them first', details);
}

/** The error of an overlay that no path leads to any more. */
export function covered(details: OverlayErrorDetails): OverlayError {
  return overlayError(
    'ERR_OVERLAY_TARGET_COVERED',
    `another mount lies over the overlay at ${details.path}`,
    'Unmount that one first',
    details,
  );
}

/** Why a detached view could not be attached. */
export function explainAttachFailure(error: unknown, target: Buffer): unknown {
  if (!isNativeError(error)) return error;
  const path = showPath(target);
  const details = { ...nativeDetails(error), path };
  switch (-error.errno) {
    case constants.errno.EALREADY:
      return alreadyAttached(target);
    case constants.errno.ENOENT:
      return overlayError(
        'ERR_OVERLAY_TARGET_NOT_FOUND',
        `the target ${path} does not exist`,
        'Make the directory, or set mkdirTarget, which makes one level',
        details,
      );
    case constants.errno.ENOTDIR:
      return overlayError(
        'ERR_OVERLAY_TARGET_NOT_DIRECTORY',
        `the target ${path} is not a directory`,
        'An overlay is mounted on a directory: correct the path',
        details,
      );
    case constants.errno.EPERM:
      return overlayError(
        'ERR_OVERLAY_NO_PRIVILEGE',
        'attaching needs CAP_SYS_ADMIN, which this process has not',
        'Run it as root, or inside a user namespace',
        details,
      );
    case constants.errno.ECANCELED:
      return exiting(error);
    default:
      return overlayError(
        'ERR_OVERLAY_TARGET_UNREACHABLE',
        `the target ${path} cannot be mounted on: ${whatFailed(error)}`,
        'See errno',
        details,
      );
  }
}
