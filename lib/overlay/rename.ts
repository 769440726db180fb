/**
 * rename(2) in an overlay, completed for directories that the kernel does not rename.
 * @module
 */
import { constants } from 'node:os';
import { binding } from '../addon.ts';
import { abortSignal, boolean, callback, checked } from '../arguments.ts';
import { cancellable } from '../cancel.ts';
import { fileError, invalidArgument, type OverlayError, overlayError } from '../errors.ts';
import { withProgress } from '../layer/copy-up-stream.ts';
import type { NativeHandle, NativeRenamed, NativeRenameFailure } from '../native/binding.ts';
import { exiting, explainNative, nativeDetails, whatFailed } from '../native-errors.ts';
import { pathBytes, showPath } from '../paths.ts';
import type { PathLike } from '../types.ts';

/** How to rename. */
export interface RenameOptions {
  /** Fail with `EEXIST` where there is something at `to`, an empty directory too (RENAME_NOREPLACE of rename(2)). */
  readonly noreplace?: boolean;
  /** Swap the two (RENAME_EXCHANGE). `EXDEV` where either is a directory that a lower layer has. */
  readonly exchange?: boolean;
  /** Takes everything back, until the copy is published; from then on the rename is completed. */
  readonly signal?: AbortSignal;
  /** Called about ten times a second while a directory is being copied. */
  readonly onProgress?: (done: RenameProgress) => void;
}

/** How much has been copied. */
export interface RenameProgress {
  /** Files and directories. */
  readonly entries: number;
  /** Bytes of data. */
  readonly bytes: bigint;
}

/** How it was done. */
export interface RenameResult extends RenameProgress {
  /** `rename`: by the kernel, in one call; nothing was copied then. */
  readonly method: 'rename' | 'copy';
}

/** A rename whose arguments have been checked. */
export interface CheckedRename extends RenameOptions {
  readonly from: Buffer;
  readonly to: Buffer;
}

/** Checks the arguments, before anything is done. */
export function checkRename(from: PathLike, to: PathLike, options: RenameOptions): CheckedRename {
  const given = checked(options, {
    noreplace: boolean,
    exchange: boolean,
    signal: abortSignal,
    onProgress: callback,
  });
  if (given.noreplace && given.exchange) {
    throw invalidArgument('options.exchange', true, 'contradicts noreplace');
  }
  return { ...given, from: pathBytes(from, 'from'), to: pathBytes(to, 'to') };
}

/** Renames inside the overlay of a handle. */
export async function renameInOverlay(handle: NativeHandle, options: CheckedRename): Promise<RenameResult> {
  const { from, to, noreplace = false, exchange = false, signal, onProgress } = options;
  const progress = binding().newProgress();
  const renaming = cancellable(signal, (cancel) =>
    binding()
      .rename(handle, { from, to, noreplace, exchange, cancel, progress })
      // A value, since what is half done must be told, aborted or not.
      .catch((failure: NativeRenameFailure) => failure),
  );
  const outcome = await withProgress(onProgress, () => binding().readProgress(progress), renaming);
  if (!isFailure(outcome)) {
    const { copied, entries, bytes } = outcome;
    return { method: copied ? 'copy' : 'rename', entries, bytes };
  }
  const aborted = signal?.aborted === true && outcome.errno === -constants.errno.ECANCELED;
  throw withCleanUp(outcome, aborted ? signal.reason : explain(outcome, options));
}

function isFailure(outcome: NativeRenamed | NativeRenameFailure): outcome is NativeRenameFailure {
  return 'errno' in outcome;
}

function explain(failure: NativeRenameFailure, { from, to, exchange }: CheckedRename): unknown {
  const { how, errno, syscall } = failure;
  const { ECANCELED, EMFILE, ENFILE, EXDEV } = constants.errno;
  const [path, dest] = [showPath(from), showPath(to)];
  const place = showPath(failure.path ?? from);
  const details = { ...nativeDetails(failure), path: place, dest };
  if (how === undefined || how === 'overlay') return failure;
  if (errno === -ECANCELED) return exiting(failure);
  if (how === 'half-done') return halfDone(failure, path, dest);
  if (errno === -EMFILE || errno === -ENFILE) {
    return explainNative(failure, 'ERR_OVERLAY_UNREACHABLE', `${path} could not be renamed`);
  }
  switch (how) {
    case 'refused':
      return overlayError(
        'ERR_OVERLAY_RENAME_REFUSED',
        `${path} would have to be copied, which ${place} does not survive: ${showPath(failure.arguments)}`,
        "Deal with that first, or mount with redirectDir: 'on', with which the kernel renames it",
        details,
      );
    case 'changed':
      return overlayError(
        'ERR_OVERLAY_RENAME_CHANGED',
        `${place} was changed while ${path} was copied, and everything is as it was`,
        'Rename it when nobody writes there',
        details,
      );
    case 'rename': {
      const why = exchange && errno === -EXDEV ? noExchange : new Error(whatFailed(failure));
      return fileError(errno, 'rename', path, why, dest);
    }
    default:
      return fileError(errno, syscall, place, new Error(whatFailed(failure)));
  }
}

const noExchange = new Error(
  'a directory that a lower layer has cannot be exchanged, nor what is on two mounts',
);

function halfDone(failure: NativeRenameFailure, path: string, dest: string): OverlayError {
  const { remaining, remains } = failure;
  const more = remaining > BigInt(remains.length) ? `, and ${remaining - BigInt(remains.length)} more` : '';
  return overlayError(
    'ERR_OVERLAY_RENAME_HALF_DONE',
    `${path} stands at ${dest}, but could not be removed where it was: ` +
      `${remains.map(showPath).join(', ')}${more} remain (${whatFailed(failure)})`,
    `Remove what remains: ${dest} is complete; what was changed meanwhile is only in what remains`,
    { ...nativeDetails(failure), dest },
  );
}

// What could not be taken back is told beside why it had to be.
function withCleanUp(failure: NativeRenameFailure, error: unknown): unknown {
  const { staging, stagingError } = failure;
  if (staging === undefined || stagingError === undefined) return error;
  const left = fileError(
    stagingError.errno,
    stagingError.syscall,
    showPath(staging),
    new Error(whatFailed(stagingError)),
  );
  const message = error instanceof Error ? error.message : String(error);
  return new AggregateError([error, left], `${message}; and ${showPath(staging)} could not be removed`);
}
