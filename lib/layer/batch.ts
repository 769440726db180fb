/**
 * Many paths of one layer in one crossing: how they are handed over, and what is made of the first one that failed.
 * @module
 */
import { abortSignal, boolean, type Check, checked } from '../arguments.ts';
import { cancellable } from '../cancel.ts';
import { type ErrorCode, invalidArgument, overlayError } from '../errors.ts';
import type { NativeBatch, NativeBatchFailure, NativeCancel, NativePaths } from '../native/binding.ts';
import { nativeDetails } from '../native-errors.ts';
import { showPath } from '../paths.ts';
import type { PathLike } from '../types.ts';
import { explainInside, explainLayer } from './explain.ts';
import { overlayXattrsAreUser, pathInLayer } from './stack.ts';

/** What every function on paths of a layer takes. */
export interface LayerOptions {
  /**
   * Overlay attributes are in `user.overlay.*` (true) or `trusted.overlay.*` (false). Default: as for a mount, `user` only
   * inside a user namespace.
   */
  readonly userxattr?: boolean;
  /** Ends the work between two paths; the promise rejects with its reason. What was done stays done. */
  readonly signal?: AbortSignal;
}

/** What such a function checks of its options. */
export const layerChecks: Readonly<Record<keyof LayerOptions, Check>> = {
  userxattr: boolean,
  signal: abortSignal,
};

/** What the names of the overlay's attributes begin with. */
export async function xattrPrefix(
  userxattr: boolean | undefined,
): Promise<'user.overlay.' | 'trusted.overlay.'> {
  return (await overlayXattrsAreUser(userxattr)) ? 'user.overlay.' : 'trusted.overlay.';
}

/** Options of a type that adds its own keys to {@link LayerOptions}. */
export function checkOptions<Options extends LayerOptions>(
  options: Options,
  own: Readonly<Record<Exclude<keyof Options & string, keyof LayerOptions>, Check>>,
): Options {
  return checked<Options>(options, { ...layerChecks, ...own } as Record<keyof Options & string, Check>);
}

/** Paths as the native side takes them. */
export interface PackedPaths {
  readonly count: number;
  readonly packed: NativePaths;
  /** The bytes of one of them, for messages. */
  at(index: number): Buffer;
}

// An empty name, `.` or `..`, a slash too many: what pathInLayer() takes away or refuses.
const unusual = /(?:^|[\0/])\.{0,2}(?=[\0/])/;

/** Checks the paths and packs them: before the first `await`. Strings without oddities are not looked at one by one. */
export function packPaths(paths: readonly PathLike[], name: string): PackedPaths {
  if (!Array.isArray(paths)) throw invalidArgument(name, paths, 'must be an array of paths');
  const plain = paths.every((path) => typeof path === 'string' && !path.includes('\0'));
  const joined = plain ? `${paths.join('\0')}\0` : '';
  const packed =
    plain && !unusual.test(joined)
      ? Buffer.from(joined)
      : // Not map(), which leaves the holes of a sparse array as they are.
        Buffer.concat(
          Array.from(paths, (path: PathLike, index) =>
            Buffer.concat([pathInLayer(path, `${name}[${index}]`), Buffer.of(0)]),
          ),
        );
  return { count: paths.length, packed, at: (index) => pathInLayer(paths[index] as PathLike, name) };
}

/** One path, or many. */
export function packPathOrPaths(paths: PathLike | readonly PathLike[]): PackedPaths {
  if (Array.isArray(paths)) return packPaths(paths, 'paths');
  const path = pathInLayer(paths as PathLike, 'path');
  return { count: 1, packed: Buffer.concat([path, Buffer.of(0)]), at: () => path };
}

/** What an error of a batch carries beside all else. */
export interface BatchProgress<Outcome> {
  /** What became of each path, in their order; `undefined`: it was not come to, or is the one that failed. */
  readonly outcomes: readonly (Outcome | undefined)[];
}

/**
 * Runs a verb on paths: rejects with the first failure, which carries the outcomes so far, and with the signal's reason once
 * it is aborted.
 */
export async function runBatch<Batch extends NativeBatch, Outcome>(
  paths: PackedPaths,
  words: readonly Outcome[],
  signal: AbortSignal | undefined,
  verb: (cancel: NativeCancel) => Promise<Batch>,
): Promise<{ readonly batch: Batch; readonly outcomes: readonly Outcome[] }> {
  return cancellable(signal, async (cancel) => {
    const batch = await verb(cancel).catch((error) => {
      throw explainLayer(error);
    });
    const outcomes = Array.from(batch.outcomes, (byte) => words[byte - 1]);
    if (batch.failure === undefined) return { batch, outcomes: outcomes as readonly Outcome[] };
    const error = explainFailure(batch.failure, batch.failure.below ?? paths.at(batch.failure.index));
    throw typeof error === 'object' ? Object.assign(error as object, { outcomes }) : error;
  });
}

const refusals: Readonly<
  Record<
    Exclude<NativeBatchFailure['refusal'], 'none' | 'malformed'>,
    readonly [code: ErrorCode, what: (path: string) => string, fix: string]
  >
> = {
  'in-opaque': [
    'ERR_OVERLAY_WHITEOUT_IN_OPAQUE',
    (path) =>
      `a whiteout at ${path} would lie in an opaque directory: readdir(3) would list it, and stat(2) not find it`,
    'Leave it out: an opaque directory hides everything below it',
  ],
  'marked-x': [
    'ERR_OVERLAY_WHITEOUT_IN_OPAQUE',
    (path) => `${path} is marked for whiteouts that are files; made opaque, it would list them`,
    'Remove those whiteouts and the mark first',
  ],
  'on-overlay': [
    'ERR_OVERLAY_WHITEOUT_ON_OVERLAY',
    (path) => `${path} lies on an overlay, which takes no whiteouts of devices`,
    "Make it with form: 'xattr', or on the file system that the overlay's own layers lie on",
  ],
  'not-whiteout': [
    'ERR_OVERLAY_NOT_A_WHITEOUT',
    (path) => `${path} is not a whiteout`,
    'Remove it with unlink(2) if it is to go',
  ],
  root: [
    'ERR_OVERLAY_LAYER_ROOT',
    () => "the layer's own root can neither be hidden nor be opaque: the kernel does not look at it",
    'Leave out the layers below it instead',
  ],
  'without-xattrs': [
    'ERR_OVERLAY_LAYER_WITHOUT_XATTRS',
    (path) => `the file system of ${path} has no extended attributes of this namespace`,
    'Use ext4, xfs, btrfs or tmpfs; whiteouts that are devices need none',
  ],
};

/** The error of the path that ended a batch. */
export function explainFailure(failure: NativeBatchFailure, path: Buffer): unknown {
  const { refusal } = failure;
  if (refusal === 'none') return explainInside(failure, path);
  const shown = showPath(path) || '/';
  if (refusal === 'malformed') {
    return invalidArgument('xattr', shown, `${showPath(failure.arguments)}, and is not written`);
  }
  const [code, what, fix] = refusals[refusal];
  return overlayError(code, what(shown), fix, { ...nativeDetails(failure), path: shown });
}
