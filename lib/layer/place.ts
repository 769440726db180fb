/**
 * A place in one layer of a stack.
 * @module
 */
import type { NativeLayerNames, NativePlace, NativeStack } from '../native/binding.ts';
import { showPath } from '../paths.ts';

/** A place in one layer of a stack. */
export interface LayerPlace {
  /** Of `work` it is the index, where hard links that have been copied up are kept. */
  readonly layer: 'upper' | 'lower' | 'dataOnlyLower' | 'work';
  /** Which one of `lower` or `dataOnlyLower`, from 0; 0 for the others. */
  readonly index: number;
  /** In the layer, for people: `.` is its root. `pathBytes` are the bytes. */
  readonly path: string;
  readonly pathBytes: Buffer;
  /** Absolute, in this mount namespace; absent where no name leads to the layer, as on a detached mount. */
  readonly realPath?: string;
  readonly realPathBytes?: Buffer;
}

/** The place that the native side names by the kernel's number of its layer. */
export function layerPlace(
  { layer, path }: NativePlace,
  { lower }: NativeStack,
  { roots, work }: NativeLayerNames,
): LayerPlace {
  const root = layer < 0 ? work : roots[layer];
  const real = root === undefined || root.length === 0 ? undefined : join(root, path);
  return {
    ...layerName(layer, lower.length),
    path: path.length === 0 ? '.' : showPath(path),
    pathBytes: path,
    ...(real === undefined ? {} : { realPath: showPath(real), realPathBytes: real }),
  };
}

function layerName(layer: number, lowers: number): Pick<LayerPlace, 'layer' | 'index'> {
  if (layer < 0) return { layer: 'work', index: 0 };
  if (layer === 0) return { layer: 'upper', index: 0 };
  if (layer <= lowers) return { layer: 'lower', index: layer - 1 };
  return { layer: 'dataOnlyLower', index: layer - 1 - lowers };
}

function join(root: Buffer, path: Buffer): Buffer {
  if (path.length === 0) return root;
  return Buffer.concat([root, Buffer.from(root.at(-1) === 0x2f ? '' : '/'), path]);
}
