/**
 * The merged tree of some layers as a plain one, by hard links.
 * @module
 */
import { binding } from '../addon.ts';
import { cancellable } from '../cancel.ts';
import { OverlayError } from '../errors.ts';
import { withProgress } from '../layer/copy-up-stream.ts';
import { layerPlace } from '../layer/place.ts';
import { refusal } from '../layer/refusal.ts';
import { settleStack } from '../layer/stack.ts';
import type { NativeStack } from '../native/binding.ts';
import { isNativeError, nativeDetails } from '../native-errors.ts';
import { showPath } from '../paths.ts';
import type { StoreDirectory } from './directory.ts';
import { explainStore } from './errors.ts';
import type { FillOptions } from './types.ts';

/** Fills an empty directory with what a mount of the layers would show, topmost first; all are paths below the root. */
export async function linkMerged(
  directory: StoreDirectory,
  layers: readonly string[],
  to: string,
  { signal, onProgress }: FillOptions,
): Promise<void> {
  await directory.mustBeDirectories(layers);
  const lower = layers.map((path) => directory.bytesOf(path));
  const { native } = await settleStack({ lower, dataOnlyLower: [] });
  const progress = binding().newProgress();
  await cancellable(signal, (token) => {
    const linking = binding()
      .linkMerged(native, directory.ref, Buffer.from(to), token, progress)
      .catch((error) => {
        throw explainLink(error, native);
      });
    const stop = () => binding().cancel(token);
    return withProgress(onProgress, () => binding().readProgress(progress), linking, stop);
  });
}

function explainLink(error: unknown, stack: NativeStack): unknown {
  if (!isNativeError(error)) return error;
  const path = showPath(error.path ?? Buffer.alloc(0));
  if (error.refused === undefined) return explainStore(error, `linking ${path === '' ? 'a tree' : path}`);
  const place = layerPlace(error.refused, stack, { roots: [], work: Buffer.alloc(0) });
  return new OverlayError([refusal(error.refused.why, place)], { ...nativeDetails(error), path });
}
