/**
 * Copying what lies in a layer, whiteouts and opaque marks too.
 * @module
 */
import { constants } from 'node:os';
import { binding } from '../addon.ts';
import { cancellable } from '../cancel.ts';
import { overlayError } from '../errors.ts';
import { withProgress } from '../layer/copy-up-stream.ts';
import { explainLayer } from '../layer/explain.ts';
import { overlayXattrsAreUser } from '../layer/stack.ts';
import type { NativeRef } from '../native/binding.ts';
import { isNativeError, whatFailed } from '../native-errors.ts';
import { showPath, showRef } from '../paths.ts';
import type { StoreDirectory } from './directory.ts';
import { explainStore } from './errors.ts';
import type { FillOptions } from './types.ts';

/** Copies a directory's content into an empty one below the root. */
export async function copyContent(
  directory: StoreDirectory,
  from: NativeRef,
  to: string,
  { signal, onProgress }: FillOptions,
): Promise<void> {
  const prefix = (await overlayXattrsAreUser(undefined)) ? 'user.overlay.' : 'trusted.overlay.';
  const progress = binding().newProgress();
  await cancellable(signal, (token) => {
    const copying = binding()
      .copyLayer(from, directory.ref, Buffer.from(to), prefix, token, progress)
      .catch((error) => {
        throw explainCopy(error, from);
      });
    const stop = () => binding().cancel(token);
    return withProgress(onProgress, () => binding().readProgress(progress), copying, stop);
  });
}

function explainCopy(error: unknown, from: NativeRef): unknown {
  if (!isNativeError(error)) return error;
  const { path } = error;
  if (path === undefined) return explainStore(error, `copying ${showRef(from)}`);
  if ([constants.errno.EXDEV, constants.errno.EOPNOTSUPP].includes(-error.errno)) {
    return overlayError(
      'ERR_OVERLAY_FOREIGN_LAYER',
      `${showPath(path)} in ${showRef(from)} cannot be copied into a layer: ${whatFailed(error)}`,
      'Unmount what is mounted there; mount metacopy layers, and copy what the overlay shows',
      { path: showPath(path) },
    );
  }
  if (-error.errno === constants.errno.ENOENT) return explainLayer(error);
  return explainStore(error, `copying ${showPath(path)} of ${showRef(from)}`);
}
