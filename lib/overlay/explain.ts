/**
 * Makes an error of what the native side rejects with: looks at the layers and says why.
 * @module
 */
import { constants } from 'node:os';
import { errorFinding, OverlayError, overlayError, systemError } from '../errors.ts';
import type { KernelFeatures, NativeError, NativeMountFailure } from '../native/binding.ts';
import { showPath } from '../paths.ts';
import { layerFacts } from './layer-facts.ts';
import type { PreparedPlan } from './plan.ts';
import { findings } from './rules.ts';

/** Whether this is what a native verb rejects with. */
export function isNativeError(error: unknown): error is NativeError {
  return typeof error === 'object' && error !== null && 'errno' in error && 'arguments' in error;
}

/** Why a mount failed: the rules on what was tried, the layers as they are now, and the kernel's own words. */
export async function explainMountFailure(
  { native }: PreparedPlan,
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
  return new OverlayError([why, ...rest], {
    ...nativeDetails(failure),
    ...(why.path === undefined ? {} : { path: why.path }),
  });
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

function shownPath(error: NativeError): string | undefined {
  return error.path === undefined ? undefined : showPath(error.path);
}
