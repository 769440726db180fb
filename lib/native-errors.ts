/**
 * What the native side rejects with, plain data, and the errors that are made of it.
 * @module
 */
import { constants } from 'node:os';
import { type ErrorCode, type OverlayError, overlayError, systemError } from './errors.ts';
import type { NativeError } from './native/binding.ts';
import { showPath } from './paths.ts';

/** Whether this is what a native verb rejects with. */
export function isNativeError(error: unknown): error is NativeError {
  return typeof error === 'object' && error !== null && 'errno' in error && 'arguments' in error;
}

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

/** An error of a verb that nothing more telling is known of; anything but plain native data is passed through. */
export function explainNative(error: unknown, code: ErrorCode, what: string): unknown {
  if (!isNativeError(error)) return error;
  const { errno } = constants;
  switch (-error.errno) {
    case errno.ECANCELED:
      return exiting(error);
    case errno.EMFILE:
    case errno.ENFILE:
      return overlayError(
        'ERR_OVERLAY_TOO_MANY_FILES',
        `${what}: no descriptor is left`,
        'Raise the limit (`ulimit -n`), or unmount what is not needed',
        nativeDetails(error),
      );
    default:
      return overlayError(code, `${what}: ${whatFailed(error)}`, 'See errno', nativeDetails(error));
  }
}

/** Waits for a verb, and makes an error of what it rejects with. */
export async function explained<T>(verb: Promise<T>, what: string): Promise<T> {
  try {
    return await verb;
  } catch (error) {
    throw explainNative(error, 'ERR_OVERLAY_UNREACHABLE', what);
  }
}

/** The path that a failed call was about, for people. */
export function shownPath(error: NativeError): string | undefined {
  return error.path === undefined ? undefined : showPath(error.path);
}
