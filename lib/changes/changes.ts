/**
 * What an overlay's upper changes over its lowers.
 * @module
 */
import { availableParallelism } from 'node:os';
import { abortSignal, boolean, type Check, checked, integer, oneOf } from '../arguments.ts';
import { invalidArgument, overlayError } from '../errors.ts';
import type { MountedOverlay } from '../inspect/mount-table.ts';
import { isMountedOverlay, stackOfMount } from '../layer/mounted.ts';
import { type CheckedStack, checkStack, isLayerSource, pathInLayer, settleStack } from '../layer/stack.ts';
import type { LayerSource, LayerStack, PathLike } from '../types.ts';
import { type ChangePlan, type ChangeStream, ChangeWalk } from './stream.ts';

/** What to tell, and how. */
export interface ChangeOptions {
  /**
   * What makes an entry that has been copied up a change:
   *
   * - `metadata` (the default): mode, owner, size, times in nanoseconds, extended attributes and symbolic links' targets.
   *   Files of the same size and time are read only where times tell too little: without a fraction of a second, or of
   *   files that were copied up within a second after they were written. A file of the same size and another time is
   *   `modified`.
   * - `content`: the bytes of files too.
   * - `none`: everything that has been copied up is told; attributes and content are not looked at.
   *
   * A copy-up that has changed nothing is no change to the first two, though it may part a hard link from its other names, as
   * it does without `index`: `none` tells it.
   */
  readonly compare?: 'metadata' | 'content' | 'none';
  /** `path` (the default): in the byte order of the paths, the root first. `any`: as they are found. */
  readonly order?: 'path' | 'any';
  /**
   * Whether to look for renames (the default), or to tell them as deleted and added, with all that came along. Files of the
   * lowers that came along with a directory are told without their links to other names of the lowers then: each as a file
   * of its own, with no `linkGroup`.
   */
  readonly renames?: boolean;
  /** Also tell what was in directories that were deleted or replaced. In the latter nothing is compared. */
  readonly expand?: boolean;
  /** Also tell directories of which nothing has changed but the time. */
  readonly dirTimes?: boolean;
  /**
   * Only what lies at or below these paths of the after-view, and directories above them that were deleted, replaced or
   * renamed. An empty array is refused: it could mean everything as well as nothing.
   */
  readonly include?: readonly PathLike[];
  /** Not what lies at or below these paths. */
  readonly exclude?: readonly PathLike[];
  /** What cannot be looked at ends the iteration (the default), or is left out and told in `done`. */
  readonly onError?: 'throw' | 'collect';
  /** Of the walk; by default as many as there are processors, at most eight. */
  readonly threads?: number;
  readonly signal?: AbortSignal;
}

const MOST_THREADS = 64;
const paths: Check = (value, name) => {
  if (!Array.isArray(value)) throw invalidArgument(name, value, 'must be an array of paths');
};
const checks: Readonly<Record<keyof ChangeOptions, Check>> = {
  compare: oneOf('metadata', 'content', 'none'),
  order: oneOf('path', 'any'),
  renames: boolean,
  expand: boolean,
  dirTimes: boolean,
  include: (value, name) => {
    paths(value, name);
    // All that is asked for, or nothing at all: what comes next may be applyChanges().
    if ((value as readonly unknown[]).length === 0)
      throw invalidArgument(name, value, 'must hold a path: leave it out for all changes');
  },
  exclude: paths,
  onError: oneOf('throw', 'collect'),
  threads: integer(1, MOST_THREADS),
  signal: abortSignal,
};

/**
 * Tells what the upper of an overlay changes over its lowers, in time that follows what has changed, however large the
 * lowers are. The layers are read themselves: the overlay may be mounted or not, and nothing is changed. Of an entry of
 * `listOverlays()` they are taken as the mount table names them.
 *
 * The whole of it is a relation, not a script: every entry's `path` is in the after-view, `from` in the before-view, and all
 * hold at once. A directory that was deleted, replaced or renamed is one entry.
 *
 * Renamed directories are known by their redirects. Other entries by the file handle that the kernel keeps of what it has
 * copied up: without one (hard links with `index` off, user namespaces, layers that were copied) they are deleted and added.
 * Looking for renames reads the directories of the upper once more, and takes the two paths and about 200 bytes of memory
 * for each; while it looks, also for each file (of at most 262,144) whose origin is not what lies below it. Otherwise
 * memory does not grow with the number of changes.
 *
 * @see https://docs.kernel.org/filesystems/overlayfs.html
 *
 * @throws OverlayError when it is iterated: `ERR_OVERLAY_XATTR_HIDDEN` without privilege, `ERR_OVERLAY_LAYERS_UNKNOWN` where
 * a mount table does not tell the layers, `ERR_OVERLAY_UPPER_MISSING` without an upper, `ERR_OVERLAY_WORK_NEEDED` where the index is needed and no work directory is given, `ERR_OVERLAY_REDIRECT_REFUSED`,
 * `ERR_OVERLAY_METACOPY_REFUSED` and the like for what the kernel would not look up with these options,
 * `ERR_OVERLAY_FOREIGN_LAYER` for what other programs left; or an error of `node:fs`'s own shape for what cannot be read.
 *
 * @example
 * ```ts
 * import { changes } from 'overlayfs';
 *
 * const stream = changes({ lower: '/srv/base', upper: '/srv/upper', work: '/srv/work' });
 * for await (const { kind, path, from } of stream) console.log(kind, path, from ?? '');
 * const { counts, consistent } = await stream.done;
 * console.log(counts.deleted, consistent ? '' : 'changed meanwhile');
 * ```
 */
export function changes(
  source: LayerStack | LayerSource | MountedOverlay,
  options: ChangeOptions = {},
): ChangeStream {
  if (isMountedOverlay(source)) return changesOf(async () => checkStack(await stackOfMount(source)), options);
  const stack = checkStack(source);
  // An overlay may have been unmounted meanwhile, and its descriptors may be others' by now.
  return changesOf(() => (isLayerSource(source) ? checkStack(source) : stack), options);
}

/** The same of a stack that is asked for when the iteration begins. */
export function changesOf(
  stack: () => CheckedStack | Promise<CheckedStack>,
  options: ChangeOptions,
): ChangeStream {
  const { include, exclude = [], onError = 'throw', signal, ...rest } = checked(options, checks);
  const { compare = 'metadata', order = 'path', renames = true, expand = false, dirTimes = false } = rest;
  const threads = rest.threads ?? Math.min(8, availableParallelism());
  const native = {
    compare,
    inOrder: order === 'path',
    renames,
    expand,
    dirTimes,
    include: (include ?? []).map((path, index) => pathInLayer(path, `include[${index}]`)),
    exclude: exclude.map((path, index) => pathInLayer(path, `exclude[${index}]`)),
    threads,
  };
  return new ChangeWalk(async (): Promise<ChangePlan> => {
    const now = await stack();
    checkUpper(now);
    const settled = await settleStack(now);
    return { stack: settled.native, options: native, onError, ...(signal === undefined ? {} : { signal }) };
  });
}

function checkUpper({ upper, work, index }: CheckedStack): void {
  if (upper === undefined) {
    throw overlayError(
      'ERR_OVERLAY_UPPER_MISSING',
      'the stack has no upper, which is what holds changes',
      'Name the upper; the topmost of several lowers can be named as such',
    );
  }
  if (index === true && work === undefined) {
    throw overlayError(
      'ERR_OVERLAY_WORK_NEEDED',
      'index is on, and the index lies in the work directory, which is not given',
      'Give `work`',
    );
  }
}
