/**
 * Errors of what is done with layers: of a layer itself ours, of a file inside one `node:fs`'s own.
 * @module
 */
import { constants } from 'node:os';
import { type ErrorCode, fileError, overlayError } from '../errors.ts';
import { explainNative, isNativeError, nativeDetails, shownPath, whatFailed } from '../native-errors.ts';
import { showPath } from '../paths.ts';

const { errno } = constants;

const unopened: Readonly<Record<number, readonly [code: ErrorCode, what: string, fix: string]>> = {
  [errno.ENOENT]: [
    'ERR_OVERLAY_LAYER_NOT_FOUND',
    'does not exist',
    'Make the directory, or correct the path',
  ],
  [errno.ENOTDIR]: ['ERR_OVERLAY_LAYER_NOT_DIRECTORY', 'is not a directory', 'A layer is a directory'],
  [errno.EACCES]: [
    'ERR_OVERLAY_LAYER_NOT_PERMITTED',
    'may not be opened by this user',
    'Run it as root, or grant search permission on every directory of the path',
  ],
  [errno.EBADF]: [
    'ERR_OVERLAY_LAYER_BAD_FD',
    'is not open',
    'Keep the descriptor open until the call settles',
  ],
};

/** Why the directories of a stack could not be opened. */
export function explainLayer(error: unknown): unknown {
  if (!isNativeError(error)) return error;
  const [code, what, fix] = unopened[-error.errno] ?? [];
  const layer = `the layer ${shownPath(error) ?? ''}`;
  if (code === undefined)
    return explainNative(error, 'ERR_OVERLAY_LAYER_UNREACHABLE', `${layer} cannot be opened`);
  return overlayError(code, `${layer} ${what}`, fix as string, nativeDetails(error));
}

/**
 * Why something inside a layer could not be done: an error as `node:fs` makes it, with the path inside the layer. What leads
 * out of the layer (a symbolic link on the way, a mount in it) is `ERR_OVERLAY_PATH_ESCAPES`. That of a layer itself is
 * told as {@link explainLayer} does.
 */
export function explainInside(error: unknown, path: Buffer): unknown {
  if (!isNativeError(error)) return error;
  if (error.layer === true) return explainLayer(error);
  const { ECANCELED, EMFILE, ENFILE, ELOOP, EXDEV } = errno;
  if ([ECANCELED, EMFILE, ENFILE].includes(-error.errno)) {
    return explainNative(error, 'ERR_OVERLAY_UNREACHABLE', showPath(path));
  }
  const opening = ['openat2', 'openat', 'statx'].includes(error.syscall);
  if (opening && [ELOOP, EXDEV].includes(-error.errno)) {
    return overlayError(
      'ERR_OVERLAY_PATH_ESCAPES',
      `${showPath(path)} leads out of the layer: ${whatFailed(error)}`,
      'A symbolic link or a mount is on the way; name what it leads to',
      { ...nativeDetails(error), path: showPath(path) },
    );
  }
  return fileError(error.errno, error.syscall, showPath(path), new Error(whatFailed(error)));
}
