/**
 * Changes carried over into a plain directory.
 * @module
 */
import { binding } from '../addon.ts';
import { abortSignal, boolean, callback, checked } from '../arguments.ts';
import { cancellable } from '../cancel.ts';
import { invalidArgument, OverlayError } from '../errors.ts';
import type { CopyMethod } from '../layer/copy-up-stream.ts';
import type { NativeApplied, NativeApply, NativeRef } from '../native/binding.ts';
import { directoryRef, showPath } from '../paths.ts';
import type { DirRef } from '../types.ts';
import { type ApplyConflict, conflictError, explainApply, explainTarget } from './apply-errors.ts';
import { packChanges } from './apply-pack.ts';
import { refuseInUse, refuseOverlap } from './apply-target.ts';
import type { Change } from './change.ts';
import { type ChangeOrigin, originOf } from './origin.ts';
import type { ChangeStream } from './stream.ts';

/**
 * `apply`: make it as the after-view has it all the same, and lose what is there; `skip`: leave it out, and all that cannot
 * be applied without it; `abort`: change nothing.
 */
export type ConflictDecision = 'apply' | 'skip' | 'abort';

/** How far `applyChanges()` has got. */
export interface ApplyProgress {
  /** Comparing the target with the before-view; copying what is new; giving everything its name. */
  readonly phase: 'checking' | 'copying' | 'placing';
  /** Entries of this phase that are done, of `total`. */
  readonly entries: number;
  readonly total: number;
  /** Bytes of data that have been copied. */
  readonly bytes: bigint;
}

/** Options of {@link applyChanges}. */
export interface ApplyOptions {
  /** What to do about a {@link ApplyConflict}: `'abort'` (the default), or a function that decides of each, in the order of paths. */
  readonly onConflict?: 'abort' | ((conflict: ApplyConflict) => ConflictDecision | Promise<ConflictDecision>);
  /** Which changes to apply; the others are as if they had not been given. */
  readonly include?: (change: Change) => boolean;
  /**
   * Only tell what would be applied and left out, and which conflicts there are; what an earlier run that was killed has
   * taken out of the target is put back even then.
   */
  readonly dryRun?: boolean;
  /** Takes back what has been done, and rejects with its reason. */
  readonly signal?: AbortSignal;
  /**
   * Called about ten times a second, and once when all is done. What it throws takes back what has been done, and is what the
   * call rejects with; where it is too late for that, it rejects all the same.
   */
  readonly onProgress?: (done: ApplyProgress) => void;
}

/** What {@link applyChanges} did. */
export interface ApplyResult {
  readonly applied: readonly Change[];
  /** Left out after a conflict. */
  readonly skipped: readonly Change[];
  /** Bytes of data that were copied; holes are not counted, unless a file was cloned. */
  readonly bytes: bigint;
  /** How the data of files was copied: how many files, by method. */
  readonly methods: Readonly<Record<Exclude<CopyMethod, 'kernel' | 'skipped'>, number>>;
  /**
   * Extended attributes that the target's file system would not take, and those that the overlay shows under names that mean
   * something to an overlay (`trusted.overlay.*`), which are never carried over.
   */
  readonly dropped: readonly { readonly change: Change; readonly xattr: string }[];
  /**
   * Directories in the target that hold what was replaced or deleted and could not be removed (an immutable file, perhaps);
   * all else is done. They are yours: no later run touches them.
   */
  readonly left: readonly string[];
}

/**
 * Makes a plain directory, which looks as the lowers do, look as the overlay does: a copy of the lower, or the lower itself
 * while no overlay uses it. Of a choice of changes only those are carried over; a directory that they need and that was left
 * out is made with the metadata that the overlay shows.
 *
 * Everything is compared with the before-view first (type, mode, owner, extended attributes and content, of what would be
 * changed or lost; not the times of directories, nor those of files with the same content), and what is new is made ready
 * and synced in a directory `#overlayfs-apply` in the target. Only then names change: what is replaced gives way in one
 * rename(2), nothing is written in place, and a file's other hard links stay as they are. A failure or an abort takes all of
 * it back; a run that was killed half-way leaves that directory, and the next one puts what was taken out back and removes the
 * rest. It is not proof against a crash of the system. What is edited in the target meanwhile is not overwritten: all is taken back.
 *
 * No symbolic link and no mount in the target is followed or crossed. Symbolic links' targets are taken as they are. Directories
 * that are among the changes get their times last; others in which names have changed have the time of that, as ever.
 * Attributes of the overlay's own (`trusted.overlay.*`) stay behind, and so do those that it shows under such names (an overlay
 * inside has made them): in a directory that becomes a layer they would be marks.
 *
 * @param changes - from `changes()`: the stream itself, or any of its entries until it is closed. The layers are those that the
 * stream holds open: an overlay may be unmounted meanwhile, and its own lower be the target.
 * @param target - on any file system that renames: on an overlay without `redirectDir: 'on'`, no directory that a lower of that
 * one holds can be deleted, replaced or renamed. Of its own mount only; nothing at its top may be called `#overlayfs-apply` or
 * `#overlayfs-applied`.
 *
 * @see renameat2(2) and openat2(2)
 *
 * @throws OverlayError `ERR_OVERLAY_APPLY_CONFLICT` where the target is not as the before-view, and `onConflict` has no other
 * answer; `ERR_OVERLAY_TARGET_OVERLAPS` and `ERR_OVERLAY_TARGET_IN_USE` where the target is, holds or lies in a layer;
 * `ERR_OVERLAY_TARGET_NOT_FOUND` and the like; `ERR_OVERLAY_STREAM_CLOSED` for entries of a stream that has been closed; `ERR_OVERLAY_RESERVED_NAME`, `ERR_OVERLAY_TARGET_ON_OVERLAY`; `ERR_OVERLAY_APPLY_HALF_DONE` where something failed and not all of it could
 * be taken back: its `applied` says what is there, its `left` where the rest lies. Anything else (`ENOSPC`, `EIO` …) is an
 * error of `node:fs`'s own shape, and the target is as it was.
 *
 * @example
 * ```ts
 * import { applyChanges, changes } from 'overlayfs';
 *
 * await using stream = changes({ lower: '/srv/repo', upper: '/srv/box/upper', work: '/srv/box/work' });
 * const { applied, skipped } = await applyChanges(stream, '/srv/repo', {
 *   include: ({ path }) => !path.startsWith('node_modules/'),
 *   onConflict: ({ path, reason }) => (console.warn(path, reason), 'skip'),
 * });
 * console.log(applied.length, skipped.map(({ path }) => path));
 * ```
 */
export async function applyChanges(
  changes: ChangeStream | Iterable<Change> | AsyncIterable<Change>,
  target: DirRef,
  options: ApplyOptions = {},
): Promise<ApplyResult> {
  const directory = directoryRef(target, 'target');
  const { include, onConflict, dryRun = false, signal, onProgress } = checkOptions(options);
  signal?.throwIfAborted();
  const chosen = await collect(changes, include, signal);
  const origin = commonOrigin(chosen);
  if (origin === undefined) return nothing;
  const given: Given = { changes: chosen, origin, target: directory };
  return carryOver(given, {
    dryRun,
    ...(typeof onConflict === 'function' ? { onConflict } : {}),
    ...(signal === undefined ? {} : { signal }),
    ...(onProgress === undefined ? {} : { onProgress }),
  });
}

// What is to be done, and where.
interface Given {
  readonly changes: readonly Change[];
  readonly origin: ChangeOrigin;
  readonly target: NativeRef;
}
type Ways = Omit<ApplyOptions, 'include' | 'onConflict'> & {
  readonly onConflict?: Exclude<ApplyOptions['onConflict'], 'abort' | undefined>;
};

async function carryOver(given: Given, ways: Ways): Promise<ApplyResult> {
  const { changes, origin, target } = given;
  const { onConflict, dryRun = false, signal, onProgress } = ways;
  await refuseOverlap(target, origin);
  await refuseInUse(target);
  signal?.throwIfAborted();
  const { apply, left } = await binding()
    .openApply(origin.walk(), target)
    .catch((error) => {
      throw explainTarget(error, target);
    });
  const thrown = new AbortController();
  const either =
    onProgress === undefined ? signal : AbortSignal.any([thrown.signal, ...(signal ? [signal] : [])]);
  const timer =
    onProgress === undefined
      ? undefined
      : setInterval(() => {
          try {
            tell(apply, changes.length, onProgress);
          } catch (error) {
            clearInterval(timer);
            thrown.abort(error);
          }
        }, 100);
  try {
    const decisions = await decide(apply, given, onConflict, either);
    thrown.signal.throwIfAborted();
    if (dryRun)
      return resultOf({ ...noData, left, decisions: await binding().applyDecide(apply, decisions) }, given);
    const done = await cancellable(either, (token) =>
      binding()
        .applyRun(apply, decisions, token)
        // A value, since what is half done must be told, aborted or not.
        .catch((failure: unknown) => ({ failure: explainApply(failure, changes, target) })),
    );
    if ('failure' in done) {
      const { failure } = done;
      const isHalfDone = failure instanceof OverlayError && failure.code === 'ERR_OVERLAY_APPLY_HALF_DONE';
      if (!isHalfDone) either?.throwIfAborted();
      throw failure;
    }
    thrown.signal.throwIfAborted();
    if (onProgress !== undefined) tell(apply, changes.length, onProgress);
    return resultOf(done, given);
  } finally {
    clearInterval(timer);
    binding().closeApply(apply);
  }
}

async function decide(
  apply: NativeApply,
  { changes, origin: { compared } }: Given,
  onConflict: Ways['onConflict'],
  signal: AbortSignal | undefined,
): Promise<Buffer> {
  const found = await cancellable(signal, (token) =>
    binding()
      .applyCheck(apply, packChanges(changes, compared), token)
      .catch((error) => {
        throw explainApply(error, changes);
      }),
  );
  const conflicts = found.map(({ change, reason, path, forcible }): ApplyConflict => {
    const shown = path.length === 0 ? '.' : showPath(path);
    return { change: changes[change] as Change, reason, path: shown, pathBytes: path, forcible };
  });
  const decisions = Buffer.alloc(changes.length);
  if (conflicts.length > 0 && onConflict === undefined) throw conflictError(conflicts);
  for (const [index, conflict] of conflicts.entries()) {
    const decision = await onConflict?.(conflict);
    signal?.throwIfAborted();
    if (decision !== 'apply' && decision !== 'skip' && decision !== 'abort') {
      throw invalidArgument('onConflict', decision, "must answer 'apply', 'skip' or 'abort'");
    }
    if (decision === 'abort' || (decision === 'apply' && !conflict.forcible)) throw conflictError([conflict]);
    decisions[found[index]?.change ?? 0] = decision === 'skip' ? 1 : 2;
  }
  return decisions;
}

const copyMethods = ['clone', 'copy_file_range', 'sendfile', 'read-write'] as const;

function resultOf(
  { decisions, bytes, methods, dropped, left }: NativeApplied,
  { changes, target }: Pick<Given, 'changes' | 'target'>,
): ApplyResult {
  const where = typeof target === 'number' ? '' : `${showPath(target)}/`;
  return {
    applied: changes.filter((_, index) => decisions[index] !== 1),
    skipped: changes.filter((_, index) => decisions[index] === 1),
    bytes,
    methods: Object.fromEntries(
      copyMethods.map((method, index) => [method, methods[index] ?? 0]),
    ) as ApplyResult['methods'],
    dropped: dropped.map(([index, xattr]) => ({ change: changes[index] as Change, xattr: showPath(xattr) })),
    left: left.map((name) => `${where}${showPath(name)}`),
  };
}

const noData = { bytes: 0n, methods: [], dropped: [], left: [] };
const nothing: ApplyResult = resultOf({ ...noData, decisions: Buffer.alloc(0) }, { changes: [], target: 0 });

function tell(apply: NativeApply, total: number, onProgress: (done: ApplyProgress) => void): void {
  const done = binding().applyProgress(apply);
  if (done !== undefined) onProgress({ ...done, total });
}

function checkOptions(options: ApplyOptions): ApplyOptions {
  return checked(options, {
    onConflict: (value, name) => {
      if (value !== 'abort' && typeof value !== 'function')
        throw invalidArgument(name, value, "must be 'abort' or a function");
    },
    include: callback,
    dryRun: boolean,
    signal: abortSignal,
    onProgress: callback,
  });
}

async function collect(
  changes: ChangeStream | Iterable<Change> | AsyncIterable<Change>,
  include: ApplyOptions['include'],
  signal: AbortSignal | undefined,
): Promise<Change[]> {
  if (typeof changes !== 'object' || changes === null)
    throw invalidArgument('changes', changes, 'must be changes, from changes()');
  const chosen: Change[] = [];
  const take = (change: Change): void => {
    if (include === undefined || include(change)) chosen.push(change);
  };
  if ('batches' in changes) {
    for await (const batch of changes.batches()) {
      signal?.throwIfAborted();
      for (const change of batch) take(change);
    }
    const { errors } = await changes.done;
    if (errors.length > 0)
      throw new AggregateError(errors, 'not every change is known: some entries could not be looked at');
  } else {
    if (!(Symbol.iterator in changes || Symbol.asyncIterator in changes))
      throw invalidArgument('changes', changes, 'must be iterable');
    for await (const change of changes) take(change);
  }
  return chosen;
}

// What a change means depends on the layers that it was found in.
function commonOrigin(changes: readonly Change[]): ChangeOrigin | undefined {
  let common: ChangeOrigin | undefined;
  for (const change of changes) {
    const origin = originOf(change);
    if (origin === undefined || (common !== undefined && origin !== common))
      throw invalidArgument('changes', change, 'must all come from one call of changes()');
    common = origin;
  }
  common?.walk();
  return common;
}
