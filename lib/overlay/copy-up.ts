/**
 * Copy-up through a mounted overlay: the kernel does it.
 * @module
 */
import { constants } from 'node:os';
import { binding } from '../addon.ts';
import { cancellable } from '../cancel.ts';
import { fileError } from '../errors.ts';
import { packPathOrPaths } from '../layer/batch.ts';
import {
  type CopyUpOptions,
  CopyUpStream,
  checkCopyUpOptions,
  withProgress,
} from '../layer/copy-up-stream.ts';
import type { NativeCopyUpBatch, NativeHandle, NativeRef } from '../native/binding.ts';
import { explainNative, isNativeError, whatFailed } from '../native-errors.ts';
import { showPath } from '../paths.ts';
import type { PathLike } from '../types.ts';

/** What a handle does around each native call: unmount() waits for it, and its errors are explained. */
export type Around = <T>(work: () => Promise<T>) => Promise<T>;

/** Copies up through the overlay of a handle, or one that is mounted at a path. */
export function copyUpMounted(
  overlay: NativeHandle | NativeRef,
  paths: PathLike | readonly PathLike[],
  options: CopyUpOptions,
  metacopy: boolean,
  around: Around,
): CopyUpStream {
  const { recursive, concurrency, signal, progress: tell } = checkCopyUpOptions(options);
  const { packed } = packPathOrPaths(paths);
  async function* batches(): AsyncGenerator<NativeCopyUpBatch, void, void> {
    signal?.throwIfAborted();
    const progress = binding().newProgress();
    const run = await around(() =>
      binding().openMountedCopyUp(overlay, packed, { recursive, concurrency, metacopy, progress }),
    );
    const next = () =>
      cancellable(signal, (cancel) => {
        const copying = binding().nextMountedCopyUp(run, cancel);
        const stop = () => binding().cancel(cancel);
        return withProgress(tell, () => binding().readProgress(progress), copying, stop);
      }).catch((error) => {
        throw explainFile(error);
      });
    try {
      for (;;) {
        const batch = await around(next);
        if (batch.methods.length === 0) return;
        yield batch;
      }
    } finally {
      binding().closeMountedCopyUp(run);
    }
  }
  return new CopyUpStream(batches, true);
}

function explainFile(error: unknown): unknown {
  if (!isNativeError(error)) return error;
  const { ECANCELED, EMFILE, ENFILE } = constants.errno;
  if (error.path === undefined || [ECANCELED, EMFILE, ENFILE].includes(-error.errno)) {
    return explainNative(error, 'ERR_OVERLAY_UNREACHABLE', 'a file could not be copied up');
  }
  const call = error.syscall.startsWith('openat') ? 'open' : error.syscall;
  return fileError(error.errno, call, showPath(error.path), new Error(whatFailed(error)));
}
