/**
 * Which layer a path of the merged view comes from, and why.
 * @module
 */
import { binding } from '../addon.ts';
import { systemError } from '../errors.ts';
import type { MountedOverlay } from '../inspect/mount-table.ts';
import type {
  HidingReason,
  LayerStepKind,
  NativePlace,
  NativeStack,
  NativeWhichLayer,
} from '../native/binding.ts';
import { showPath } from '../paths.ts';
import type { Finding, LayerSource, LayerStack, PathLike } from '../types.ts';
import { explainInside } from './explain.ts';
import { type FileType, typeOf } from './file-type.ts';
import { isMountedOverlay, stackOfMount } from './mounted.ts';
import { type LayerPlace, layerPlace } from './place.ts';
import { ignored, refusal } from './refusal.ts';
import { checkStack, pathInLayer, settleStack, workMustBeGiven } from './stack.ts';

/** Something that decides where a path comes from. */
export interface LayerStep extends LayerPlace {
  /**
   * `opaque`: a directory that nothing below shows through; `redirect`: what is below is looked for elsewhere;
   * `metacopy`: the data lies further below; `index`: a hard link that was copied up under another name; `whiteout` and
   * `xattr-whiteout`: it has been deleted.
   */
  readonly kind: LayerStepKind;
  /** Of `redirect`: one name beside the file, or a path from the root of the overlay. */
  readonly redirect?: string;
}

/** Something of the same name that does not show through. */
export interface HiddenPlace extends LayerPlace {
  readonly type: FileType;
  /** What hides it: a whiteout, an opaque or redirected directory, a file, or a directory where this is none. */
  readonly reason: HidingReason;
  readonly by: LayerPlace;
}

/** Where a path of the merged view comes from. */
export interface WhichLayer {
  /** The path that was asked for, from the root of the overlay, for people; `pathBytes` are the bytes. */
  readonly path: string;
  readonly pathBytes: Buffer;
  readonly exists: boolean;
  /** What a mount answers where it does not exist: `ENOENT`, `ENOTDIR`, or what `findings` explain. */
  readonly error?: string;
  readonly type?: FileType;
  /** What its metadata comes from, and its content but for `data`. */
  readonly place?: LayerPlace;
  /** Of a metacopy file: where the content lies. Absent with a finding: nowhere. */
  readonly data?: LayerPlace;
  /** Of a directory: all that it is made of, topmost first. */
  readonly merged: readonly LayerPlace[];
  /** What was met on the way, directories above included, in the order of the look-up. */
  readonly way: readonly LayerStep[];
  readonly hidden: readonly HiddenPlace[];
  /** What in these layers the options do not honour, or the kernel refuses. */
  readonly findings: readonly Finding[];
}

/**
 * Tells which layer a path of an overlay comes from: the layers are looked at themselves, as the kernel does; nothing needs
 * to be mounted, and nothing is changed. A symbolic link is not followed; where one stands in the way the answer is
 * `ENOTDIR`.
 *
 * What layers mean depends on the options that they are read with, so a stack must say them; of an entry of
 * `listOverlays()` those of the mount are taken. Its layers are where the mount table names them: one that was renamed since it
 * was mounted is not found, or what has its name now is taken for it.
 *
 * @see https://docs.kernel.org/filesystems/overlayfs.html
 *
 * @throws OverlayError `ERR_OVERLAY_LAYERS_UNKNOWN` where a mount table does not tell the layers,
 * `ERR_OVERLAY_WORK_NEEDED` where the layers have an index and no work directory is given, `ERR_OVERLAY_XATTR_HIDDEN`
 * without privilege, `ERR_OVERLAY_PATH_ESCAPES` for a `..` in the path or a mount inside a layer.
 *
 * @example
 * ```ts
 * import { whichLayer } from 'overlayfs';
 *
 * const { place, hidden } = await whichLayer({ lower: ['/srv/app', '/srv/base'], upper: '/srv/upper' }, 'etc/hosts');
 * console.log(place?.layer, place?.realPath); // upper /srv/upper/etc/hosts
 * for (const { realPath, reason } of hidden) console.log(realPath, reason); // /srv/base/etc/hosts file
 * ```
 */
export async function whichLayer(
  source: LayerStack | LayerSource | MountedOverlay,
  path: PathLike,
): Promise<WhichLayer> {
  const bytes = pathInLayer(path, 'path');
  const checked = checkStack(isMountedOverlay(source) ? await stackOfMount(source) : source);
  const { native } = await settleStack(checked);
  workMustBeGiven(native);
  const told = await binding()
    .whichLayer(native, bytes)
    .catch((error) => {
      throw explainInside(error, bytes);
    });
  const counted = told.ignored.find(({ name }) => name.toString('latin1').endsWith('overlay.nlink'));
  if (counted !== undefined) workMustBeGiven(native, counted.path);
  return answerOf(told, native, bytes);
}

function answerOf(told: NativeWhichLayer, stack: NativeStack, bytes: Buffer): WhichLayer {
  const place = (one: NativePlace) => layerPlace(one, stack, told);
  const exists = told.errno === 0;
  const regular = exists && typeOf(told.mode) === 'file';
  const data = told.data ?? (regular && told.dataErrno === 0 ? told.serves : undefined);
  return {
    path: showPath(bytes) || '.',
    pathBytes: bytes,
    exists,
    ...(exists ? { type: typeOf(told.mode) } : { error: systemError(told.errno).code }),
    ...(told.serves === undefined ? {} : { place: place(told.serves) }),
    ...(data === undefined ? {} : { data: place(data) }),
    merged: told.merged.map(place),
    way: told.way.map(({ kind, redirect, ...where }) => ({
      ...place(where),
      kind,
      ...(kind === 'redirect' ? { redirect: showPath(redirect) } : {}),
    })),
    hidden: told.hidden.map(({ mode, why, by, ...where }) => ({
      ...place(where),
      type: typeOf(mode),
      reason: why,
      by: place(by),
    })),
    findings: [
      ...(told.refused === undefined ? [] : [refusal(told.refused.why, place(told.refused))]),
      ...(told.dataErrno === 0 || told.serves === undefined
        ? []
        : [refusal('data-missing', place(told.serves))]),
      ...told.ignored.map((one) => ignored(one, place(one))),
    ],
  };
}
