/**
 * Makes an error of what the native side rejects with: looks at the layers and says why.
 * @module
 */
import { constants } from 'node:os';
import { errorFinding, OverlayError, overlayError, systemError } from '../errors.ts';
import type { KernelFeatures, NativeError, NativeMountFailure, NativePlan } from '../native/binding.ts';
import { showPath } from '../paths.ts';
import { layerFacts } from './layer-facts.ts';
import { whoUses } from './layer-users.ts';
import { findings } from './rules.ts';

/** Whether this is what a native verb rejects with. */
export function isNativeError(error: unknown): error is NativeError {
  return typeof error === 'object' && error !== null && 'errno' in error && 'arguments' in error;
}

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

/** `fsconfig(CMD_CREATE): EINVAL, invalid argument`. */
export function whatFailed(error: NativeError): string {
  const { code, text } = systemError(error.errno);
  return `${error.syscall}(${showPath(error.arguments)}): ${code}, ${text}`;
}

/** The fields of an OverlayError that come straight from the failed call. */
export function nativeDetails(error: NativeError): {
  errno: number;
  syscall: string;
  path?: string;
  kernel?: string;
  cause: Error;
} {
  const path = shownPath(error);
  return {
    errno: error.errno,
    syscall: error.syscall,
    ...(path === undefined ? {} : { path }),
    ...(error.kernel === undefined ? {} : { kernel: showPath(error.kernel) }),
    cause: new Error(whatFailed(error)),
  };
}

/** The error of any verb once the exit gate is closed. */
export function exiting(error: NativeError): OverlayError {
  return overlayError(
    'ERR_OVERLAY_EXITING',
    'the process (or this worker) is ending, and its mounts are being taken away',
    'Mount before the exit event',
    nativeDetails(error),
  );
}

/** The error of a handle that stands for nothing any more. */
export function notMounted(name: string): OverlayError {
  return overlayError(
    'ERR_OVERLAY_NOT_MOUNTED',
    `the overlay ${name} has been unmounted`,
    'Use the handle before unmount()',
  );
}

/** The error of attaching what is attached. */
export function alreadyAttached(target: Buffer, asked: Buffer): OverlayError {
  return overlayError(
    'ERR_OVERLAY_ALREADY_ATTACHED',
    `the overlay is attached at ${showPath(target)}`,
    'Bind-mount it, or mount another',
    { path: showPath(asked) },
  );
}

/** The codes that a handle's methods end in when nothing more telling is known. */
export type HandleErrorCode = 'ERR_OVERLAY_NOT_MOUNTED' | 'ERR_OVERLAY_REMOUNT_FAILED';

/** Why a method of a handle failed. */
export function explainHandleFailure(error: unknown, name: string, otherwise: HandleErrorCode): unknown {
  if (!isNativeError(error)) return error;
  switch (-error.errno) {
    case constants.errno.ECANCELED:
      return exiting(error);
    case constants.errno.ENOENT:
      return notMounted(name);
    case constants.errno.EBUSY:
      return overlayError(
        otherwise,
        `files in ${name} are open for writing`,
        'Close them first',
        nativeDetails(error),
      );
    default:
      return overlayError(otherwise, `${name}: ${whatFailed(error)}`, 'See errno', nativeDetails(error));
  }
}

/** Why a detached view could not be attached. */
export function explainAttachFailure(error: unknown, target: Buffer): unknown {
  if (!isNativeError(error)) return error;
  const path = showPath(target);
  const details = { ...nativeDetails(error), path };
  switch (-error.errno) {
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

function shownPath(error: NativeError): string | undefined {
  return error.path === undefined ? undefined : showPath(error.path);
}
