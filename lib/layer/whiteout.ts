/**
 * Whiteouts: names in a layer that hide what the layers below have there.
 * @module
 */
import { binding } from '../addon.ts';
import { boolean, oneOf } from '../arguments.ts';
import { overlayError } from '../errors.ts';
import { kernelFeatures } from '../inspect/kernel.ts';
import type { NativeRef } from '../native/binding.ts';
import { directoryRef, showRef } from '../paths.ts';
import type { DirRef, PathLike } from '../types.ts';
import {
  type BatchProgress,
  checkOptions,
  explainFailure,
  type LayerOptions,
  packPathOrPaths,
  packPaths,
  runBatch,
  xattrPrefix,
} from './batch.ts';
import { explainLayer } from './explain.ts';
import { pathInLayer } from './stack.ts';

/**
 * What a whiteout is on disk. `device`: a character device 0:0, as the kernel makes them. `xattr`: an empty regular file with
 * `overlay.whiteout` in a directory marked `overlay.opaque=x`, for lower layers (Linux 6.7). `aufs`: a file `.wh.NAME` beside
 * where `NAME` would be, as in image layers and of fuse-overlayfs; kernel overlays show it as a file.
 */
export type WhiteoutForm = 'device' | 'xattr' | 'aufs';

/** `linked`: one more name of a whiteout made before it. `present`: there was one. `replaced`: a file or empty directory. */
export type WhiteoutOutcome = 'made' | 'linked' | 'present' | 'replaced';

/** How whiteouts are made. */
export interface WhiteoutOptions extends LayerOptions {
  /** Default `device`. */
  readonly form?: 'device' | 'xattr';
  /**
   * Gives one inode as many names as the file system allows, as the kernel does itself. Saves inodes; faster on xfs, slower
   * on btrfs. Default false.
   */
  readonly share?: boolean;
  /**
   * Replaces a file or an empty directory of that name, in one step. Default false: `EEXIST`. A process that is killed at that
   * very moment leaves a whiteout, or what stood there, under a name that begins with `.overlayfs-whiteout-`.
   */
  readonly replace?: boolean;
}

/** What became of a batch of whiteouts. */
export interface WhiteoutsResult extends BatchProgress<WhiteoutOutcome> {
  /** For each path, in their order. */
  readonly outcomes: readonly WhiteoutOutcome[];
}

const check = (options: WhiteoutOptions): WhiteoutOptions =>
  checkOptions<WhiteoutOptions>(options, {
    form: oneOf('device', 'xattr'),
    share: boolean,
    replace: boolean,
  });

/**
 * Makes a whiteout: `path`, below the layer's directory, hides what the layers below have there. Its directory must exist.
 *
 * Layers are for editing while no overlay uses them: what a mounted overlay shows of a changed layer is undefined. As with
 * unlink(2) nothing is durable before a sync.
 *
 * @returns Whether it was made, was there, or took the place of something (`replace`).
 * @throws OverlayError `ERR_OVERLAY_WHITEOUT_IN_OPAQUE` in an opaque directory or below one, where it would hide nothing and
 * show as a name that cannot be looked at; `ERR_OVERLAY_WHITEOUT_ON_OVERLAY`; `ERR_OVERLAY_UPPER_IN_USE` for the form `xattr`
 * in the upper of a live overlay, which does not honour it; `ERR_OVERLAY_LAYER_WITHOUT_XATTRS`; `ERR_OVERLAY_PATH_ESCAPES`;
 * `ERR_OVERLAY_XATTR_HIDDEN`, since without privilege it is not known which directories are opaque. An error of
 * `node:fs`'s shape: `EEXIST` where something stands that is not to be replaced, `ENOTEMPTY` where a directory with content
 * does, `ENOENT`, `ENOSPC`, `EROFS`.
 * @see https://docs.kernel.org/filesystems/overlayfs.html#whiteouts-and-opaque-directories
 *
 * @example
 * ```ts
 * import { createWhiteout } from 'overlayfs';
 *
 * await createWhiteout('/srv/upper', 'etc/motd');
 * ```
 */
export async function createWhiteout(
  layer: DirRef,
  path: PathLike,
  options: WhiteoutOptions = {},
): Promise<WhiteoutOutcome> {
  const { outcomes } = await createWhiteouts(layer, [path], options);
  return outcomes[0] as WhiteoutOutcome;
}

/**
 * Makes many whiteouts in one call; see {@link createWhiteout}. Each is made whole or not at all, directory by directory in the
 * order in which these first appear.
 *
 * @throws As {@link createWhiteout}, for the first path that fails: it ends the batch, and the error carries `outcomes`, which
 * tell what was done. Called again, it goes on where it stopped: whiteouts that are there are left as they are.
 *
 * @example
 * ```ts
 * import { createWhiteouts } from 'overlayfs';
 *
 * const { outcomes } = await createWhiteouts('/srv/layer', ['etc/motd', 'var/cache/apt'], { share: true });
 * console.log(outcomes); // ['made', 'linked']
 * ```
 */
export async function createWhiteouts(
  layer: DirRef,
  paths: readonly PathLike[],
  options: WhiteoutOptions = {},
): Promise<WhiteoutsResult> {
  const { form = 'device', share = false, replace = false, userxattr, signal } = check(options);
  const ref = directoryRef(layer, 'layer');
  const packed = packPaths(paths, 'paths');
  const prefix = await xattrPrefix(userxattr);
  if (form === 'xattr') await refuseLiveUpper(ref);
  const words = ['made', 'linked', 'present', 'replaced'] as const;
  const { outcomes } = await runBatch(packed, words, signal, (cancel) =>
    binding().createWhiteouts(ref, packed.packed, prefix, { form, share, replace }, cancel),
  );
  return { outcomes };
}

/**
 * Whether a whiteout stands at a path, and which form it has. False where nothing is, and where something else is: a file hides
 * what is below it too.
 *
 * The kernel takes a `device` anywhere, an `xattr` one by its name anywhere but in directory listings only where the directory
 * is marked, and an `aufs` one nowhere.
 *
 * @throws OverlayError `ERR_OVERLAY_PATH_ESCAPES`, `ERR_OVERLAY_XATTR_HIDDEN`; an error of `node:fs`'s shape where it cannot be
 * told.
 *
 * @example
 * ```ts
 * import { isWhiteout } from 'overlayfs';
 *
 * if ((await isWhiteout('/srv/upper', 'etc/motd')) === 'device') console.log('deleted');
 * ```
 */
export function isWhiteout(
  layer: DirRef,
  path: PathLike,
  options?: LayerOptions,
): Promise<WhiteoutForm | false>;
/** The same of many paths, in their order. */
export function isWhiteout(
  layer: DirRef,
  paths: readonly PathLike[],
  options?: LayerOptions,
): Promise<readonly (WhiteoutForm | false)[]>;
export async function isWhiteout(
  layer: DirRef,
  paths: PathLike | readonly PathLike[],
  options: LayerOptions = {},
): Promise<WhiteoutForm | false | readonly (WhiteoutForm | false)[]> {
  const forms = await ofForms('whiteoutForms', layer, paths, options);
  return Array.isArray(paths) ? forms : (forms[0] as WhiteoutForm | false);
}

/**
 * Removes a whiteout, whichever form it has; what the layers below have there shows again. The mark `x` of a directory whose
 * `xattr` whiteouts are gone stays: it does no harm.
 *
 * @returns The form that it had.
 * @throws OverlayError `ERR_OVERLAY_NOT_A_WHITEOUT` where something else stands, or nothing; and as {@link isWhiteout}.
 *
 * @example
 * ```ts
 * import { removeWhiteout } from 'overlayfs';
 *
 * await removeWhiteout('/srv/upper', 'etc/motd');
 * ```
 */
export function removeWhiteout(layer: DirRef, path: PathLike, options?: LayerOptions): Promise<WhiteoutForm>;
/** The same of many paths, in their order; the error of the first that fails carries the `outcomes` so far. */
export function removeWhiteout(
  layer: DirRef,
  paths: readonly PathLike[],
  options?: LayerOptions,
): Promise<readonly WhiteoutForm[]>;
export async function removeWhiteout(
  layer: DirRef,
  paths: PathLike | readonly PathLike[],
  options: LayerOptions = {},
): Promise<WhiteoutForm | readonly WhiteoutForm[]> {
  const forms = (await ofForms('removeWhiteouts', layer, paths, options)) as readonly WhiteoutForm[];
  return Array.isArray(paths) ? forms : (forms[0] as WhiteoutForm);
}

/** How {@link renameWithWhiteout} goes about it. */
export interface RenameWithWhiteoutOptions extends Omit<LayerOptions, 'signal'> {
  /** As rename(2), replaces what is at the new name. Default true; false: `EEXIST`. */
  readonly replace?: boolean;
}

/**
 * Moves something within a layer and leaves a whiteout where it was, in one step (renameat2(2) with `RENAME_WHITEOUT`). This is
 * how the kernel itself renames in an upper. A directory that layers below have too loses their content by it.
 *
 * @throws OverlayError as {@link createWhiteout}; an error of `node:fs`'s shape, `EINVAL` where the file system cannot do it.
 * @see https://man7.org/linux/man-pages/man2/rename.2.html
 *
 * @example
 * ```ts
 * import { renameWithWhiteout } from 'overlayfs';
 *
 * await renameWithWhiteout('/srv/upper', 'etc/motd', 'etc/motd.old');
 * ```
 */
export async function renameWithWhiteout(
  layer: DirRef,
  from: PathLike,
  to: PathLike,
  options: RenameWithWhiteoutOptions = {},
): Promise<void> {
  const { replace = true, userxattr } = checkOptions<RenameWithWhiteoutOptions & LayerOptions>(options, {
    replace: boolean,
  });
  const ref = directoryRef(layer, 'layer');
  const names = [pathInLayer(from, 'from'), pathInLayer(to, 'to')] as const;
  const prefix = await xattrPrefix(userxattr);
  const failure = await binding()
    .renameWithWhiteout(ref, ...names, prefix, replace)
    .catch((error) => {
      throw explainLayer(error);
    });
  if (failure !== undefined) throw explainFailure(failure, names[failure.index as 0 | 1]);
}

async function ofForms(
  verb: 'whiteoutForms' | 'removeWhiteouts',
  layer: DirRef,
  paths: PathLike | readonly PathLike[],
  options: LayerOptions,
): Promise<readonly (WhiteoutForm | false)[]> {
  const { userxattr, signal } = checkOptions(options, {});
  const ref = directoryRef(layer, 'layer');
  const packed = packPathOrPaths(paths);
  const prefix = await xattrPrefix(userxattr);
  const words = [false, 'device', 'xattr', 'aufs'] as const;
  const { outcomes } = await runBatch(packed, words, signal, (cancel) =>
    binding()[verb](ref, packed.packed, prefix, cancel),
  );
  return outcomes;
}

// The kernel is asked with the layer alone: which work directory goes with it is not known here.
async function refuseLiveUpper(layer: NativeRef): Promise<void> {
  const { layerFds, lowerdirAppend, detachedLayers } = await kernelFeatures();
  const rung = layerFds !== 'none' ? 'layer-fds' : lowerdirAppend ? 'layer-names' : 'mount';
  const answer = await binding()
    .upperInUse(layer, rung, detachedLayers)
    .catch((error) => {
      throw explainLayer(error);
    });
  if (answer !== 'upper') return;
  throw overlayError(
    'ERR_OVERLAY_UPPER_IN_USE',
    `${showRef(layer)} is the upper of a live overlay, and whiteouts that are files are honoured in lower layers only`,
    "Unmount the overlay; in an upper make whiteouts of form: 'device'",
    { path: showRef(layer) },
  );
}
