/**
 * Why a path of an upper could not be told: an error that names it.
 * @module
 */
import { type ErrorCode, OverlayError, overlayError } from '../errors.ts';
import { explainInside } from '../layer/explain.ts';
import { layerPlace } from '../layer/place.ts';
import { refusal } from '../layer/refusal.ts';
import type { NativeChangeError, NativeStack } from '../native/binding.ts';
import { showPath } from '../paths.ts';

const foreign: Readonly<
  Record<NonNullable<NativeChangeError['artefact']>, readonly [code: ErrorCode, detail: string, fix: string]>
> = {
  'fuse-overlayfs': [
    'ERR_OVERLAY_FOREIGN_LAYER',
    'has attributes of fuse-overlayfs, which the kernel does not read',
    'Convert the layer, or exclude the path',
  ],
  aufs: [
    'ERR_OVERLAY_FOREIGN_LAYER',
    'is a whiteout to AUFS and fuse-overlayfs, and an ordinary file to the kernel',
    'Convert the layer, or exclude the path',
  ],
  userxattr: [
    'ERR_OVERLAY_FOREIGN_LAYER',
    'has marks of an overlay with `userxattr`, which this stack does not read',
    'Set `userxattr: true`, or exclude the path',
  ],
  trusted: [
    'ERR_OVERLAY_FOREIGN_LAYER',
    'has marks of an overlay without `userxattr`, which this stack does not read',
    'Leave `userxattr` out, or exclude the path',
  ],
  nlink: [
    'ERR_OVERLAY_WORK_NEEDED',
    'counts its links with an index, which lies in the work directory, and that is not given',
    'Give `work`',
  ],
};

/** The error of one path. */
export function explainChangeError(
  { path, error, refused, artefact }: NativeChangeError,
  stack: NativeStack,
): Error {
  const shown = showPath(path);
  if (refused !== undefined) {
    const place = layerPlace(refused, stack, { roots: [], work: Buffer.alloc(0) });
    return new OverlayError([refusal(refused.why, place)], { path: shown });
  }
  if (artefact !== undefined) {
    const [code, detail, fix] = foreign[artefact];
    return overlayError(code, `${shown} ${detail}`, fix, { path: shown });
  }
  return explainInside(error, path) as Error;
}
