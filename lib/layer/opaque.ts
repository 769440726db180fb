/**
 * Opaque directories: nothing of what layers below have there shows through.
 * @module
 */
import { binding } from '../addon.ts';
import { directoryRef } from '../paths.ts';
import type { DirRef, PathLike } from '../types.ts';
import { checkOptions, type LayerOptions, packPathOrPaths, runBatch, xattrPrefix } from './batch.ts';

/**
 * How a directory is marked. `xattr`: `overlay.opaque=y`, the only one that the kernel honours. `fuse-overlayfs`:
 * `user.fuseoverlayfs.opaque`. `aufs`: a file `.wh..wh..opq` in it, as in image layers.
 */
export type OpaqueForm = 'xattr' | 'fuse-overlayfs' | 'aufs';

const words = [false, 'xattr', 'fuse-overlayfs', 'aufs'] as const;

/**
 * Makes a directory of a layer opaque (`overlay.opaque=y`). Whiteouts that are already in it, or below it, hide nothing any
 * more and show as names that cannot be looked at: remove them first.
 *
 * @returns Whether it was not yet.
 * @throws OverlayError `ERR_OVERLAY_LAYER_ROOT`; `ERR_OVERLAY_WHITEOUT_IN_OPAQUE` where it is marked `x` for whiteouts that are
 * files; `ERR_OVERLAY_LAYER_WITHOUT_XATTRS`; `ERR_OVERLAY_PATH_ESCAPES`; `ERR_OVERLAY_XATTR_HIDDEN`. An error of `node:fs`'s
 * shape: `ENOTDIR` for a file, `ENOENT`, `ENOSPC`, `EROFS`.
 * @see https://docs.kernel.org/filesystems/overlayfs.html#whiteouts-and-opaque-directories
 *
 * @example
 * ```ts
 * import { setOpaque } from 'overlayfs';
 *
 * await setOpaque('/srv/upper', 'etc');
 * ```
 */
export function setOpaque(layer: DirRef, path: PathLike, options?: LayerOptions): Promise<boolean>;
/** The same of many directories, in their order; the error of the first that fails carries the `outcomes` so far. */
export function setOpaque(
  layer: DirRef,
  paths: readonly PathLike[],
  options?: LayerOptions,
): Promise<readonly boolean[]>;
export async function setOpaque(
  layer: DirRef,
  paths: PathLike | readonly PathLike[],
  options: LayerOptions = {},
): Promise<boolean | readonly boolean[]> {
  const before = await inDirectories('setOpaque', layer, paths, options);
  const changed = before.map((form) => form === false);
  return Array.isArray(paths) ? changed : (changed[0] as boolean);
}

/**
 * Whether a directory of a layer is opaque, and how it is marked. The kernel does not look at the mark of a layer's root.
 *
 * @throws OverlayError `ERR_OVERLAY_PATH_ESCAPES`, `ERR_OVERLAY_XATTR_HIDDEN`; an error of `node:fs`'s shape: `ENOTDIR` for a
 * file, `ENOENT`.
 *
 * @example
 * ```ts
 * import { isOpaque } from 'overlayfs';
 *
 * if (await isOpaque('/srv/upper', 'etc')) console.log('replaced as a whole');
 * ```
 */
export function isOpaque(layer: DirRef, path: PathLike, options?: LayerOptions): Promise<OpaqueForm | false>;
/** The same of many directories, in their order. */
export function isOpaque(
  layer: DirRef,
  paths: readonly PathLike[],
  options?: LayerOptions,
): Promise<readonly (OpaqueForm | false)[]>;
export async function isOpaque(
  layer: DirRef,
  paths: PathLike | readonly PathLike[],
  options: LayerOptions = {},
): Promise<OpaqueForm | false | readonly (OpaqueForm | false)[]> {
  const forms = await inDirectories('opaqueForms', layer, paths, options);
  return Array.isArray(paths) ? forms : (forms[0] as OpaqueForm | false);
}

/**
 * Takes the marks of an opaque directory away, in whichever forms it has them: it merges again with those below it. The mark
 * `x`, which does not make it opaque, stays.
 *
 * @returns The form that it had; false: it was not opaque.
 * @throws As {@link isOpaque}; `EROFS`.
 *
 * @example
 * ```ts
 * import { clearOpaque } from 'overlayfs';
 *
 * await clearOpaque('/srv/upper', 'etc');
 * ```
 */
export function clearOpaque(
  layer: DirRef,
  path: PathLike,
  options?: LayerOptions,
): Promise<OpaqueForm | false>;
/** The same of many directories, in their order; the error of the first that fails carries the `outcomes` so far. */
export function clearOpaque(
  layer: DirRef,
  paths: readonly PathLike[],
  options?: LayerOptions,
): Promise<readonly (OpaqueForm | false)[]>;
export async function clearOpaque(
  layer: DirRef,
  paths: PathLike | readonly PathLike[],
  options: LayerOptions = {},
): Promise<OpaqueForm | false | readonly (OpaqueForm | false)[]> {
  const forms = await inDirectories('clearOpaque', layer, paths, options);
  return Array.isArray(paths) ? forms : (forms[0] as OpaqueForm | false);
}

async function inDirectories(
  verb: 'setOpaque' | 'clearOpaque' | 'opaqueForms',
  layer: DirRef,
  paths: PathLike | readonly PathLike[],
  options: LayerOptions,
): Promise<readonly (OpaqueForm | false)[]> {
  const { userxattr, signal } = checkOptions(options, {});
  const ref = directoryRef(layer, 'layer');
  const packed = packPathOrPaths(paths);
  const prefix = await xattrPrefix(userxattr);
  const { outcomes } = await runBatch(packed, words, signal, (cancel) =>
    binding()[verb](ref, packed.packed, prefix, cancel),
  );
  return outcomes;
}
