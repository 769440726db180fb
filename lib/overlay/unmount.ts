/**
 * Unmounting: waiting for what keeps a mount busy, and saying why when it does not let go.
 * @module
 */
import { constants } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { binding } from '../addon.ts';
import { closed } from '../arguments.ts';
import { invalidArgument, type OverlayError, overlayError } from '../errors.ts';
import { publishUnmount } from '../events.ts';
import { describeHolders, holders } from '../inspect/holders.ts';
import type { NativeError } from '../native/binding.ts';
import { exiting, isNativeError, nativeDetails, whatFailed } from '../native-errors.ts';
import { absolutePath, showPath } from '../paths.ts';
import type { Holders, MountRef, PathLike } from '../types.ts';
import { covered } from './explain.ts';

/** How to unmount. */
export interface UnmountOptions {
  /**
   * Take the mount out of the tree at once, although files are open in it (MNT_DETACH). The superblock lives on until
   * they are closed, upper and work stay in use, and mounting them again meanwhile corrupts the upper. Default false.
   */
  readonly lazy?: boolean;
  /** How long to try again while it is busy, in milliseconds. Default 5000. */
  readonly timeout?: number;
  readonly signal?: AbortSignal;
}

/**
 * Unmounts the topmost mount at `target`, if it is an overlay. Unmounting a writable overlay that is not volatile syncs
 * the whole file system that its upper is on, and may take seconds.
 *
 * Rests on umount2(2).
 *
 * @throws OverlayError `ERR_OVERLAY_NOT_AN_OVERLAY` when something else is mounted there, or nothing;
 * `ERR_OVERLAY_BUSY` when it is still busy after `timeout`.
 *
 * @example
 * ```ts
 * import { unmount } from 'overlayfs';
 *
 * await unmount('/mnt/merged');
 * ```
 */
export async function unmount(target: PathLike, options: UnmountOptions = {}): Promise<void> {
  const path = absolutePath(target, 'target');
  const checked = checkUnmountOptions(options, unmountKeys);
  await whileBusy(path, checked, () => binding().unmountTarget(path, checked.lazy ?? false));
}

/** The keys of {@link UnmountOptions}. */
export const unmountKeys: readonly string[] = ['lazy', 'timeout', 'signal'];

/** Checks the options of an unmount. */
export function checkUnmountOptions<T extends UnmountOptions>(options: T, keys: readonly string[]): T {
  closed(options, 'options', keys);
  const { lazy, timeout, signal } = options;
  if (lazy !== undefined && typeof lazy !== 'boolean')
    throw invalidArgument('lazy', lazy, 'must be a boolean');
  if (timeout !== undefined && !(typeof timeout === 'number' && timeout >= 0)) {
    throw invalidArgument('timeout', timeout, 'must be a number of milliseconds, 0 or more');
  }
  if (signal !== undefined && !(signal instanceof AbortSignal)) {
    throw invalidArgument('signal', signal, 'must be an AbortSignal');
  }
  return options;
}

/** Waits for what is under way, but no longer than the caller waits for a busy mount. */
export async function settled(
  pending: ReadonlySet<Promise<unknown>>,
  { timeout = 5000, signal }: UnmountOptions,
): Promise<void> {
  if (pending.size === 0) return;
  const done = new AbortController();
  const signals = signal === undefined ? [done.signal] : [done.signal, signal];
  const tired = sleep(Math.min(timeout, 2 ** 31 - 1), undefined, { signal: AbortSignal.any(signals) }).catch(
    () => {},
  );
  await Promise.race([Promise.allSettled(pending), tired]);
  done.abort();
}

/** Tries until it is no longer busy, the time is up (the error then names who holds it), or the caller gives up. */
export async function whileBusy<T>(
  mount: Buffer | MountRef,
  { timeout = 5000, lazy = false, signal }: UnmountOptions,
  attempt: () => Promise<T>,
): Promise<T> {
  const started = performance.now();
  const target = Buffer.isBuffer(mount) ? showPath(mount) : mount.target;
  const duration = () => performance.now() - started;
  for (let pause = 1; ; pause = Math.min(pause * 2, 100)) {
    signal?.throwIfAborted();
    try {
      const result = await attempt();
      publishUnmount(() => ({ ...place(target), lazy, duration: duration() }));
      return result;
    } catch (error) {
      const left = timeout - duration();
      if (!isBusy(error) || left <= 0) {
        const explained = explainUnmountFailure(error, target, isBusy(error) ? await who(mount) : undefined);
        publishUnmount(() => ({ ...place(target), lazy, duration: duration(), error: explained }));
        throw explained;
      }
      await sleep(Math.min(pause, left), undefined, signal === undefined ? {} : { signal }).catch(() => {
        throw signal?.reason;
      });
    }
  }
}

const place = (target: string | undefined) => (target === undefined ? {} : { target });

// EBUSY from another call than umount2 means that another mount is on top: waiting does not help.
function isBusy(error: unknown): boolean {
  return isNativeError(error) && error.errno === -constants.errno.EBUSY && error.syscall === 'umount2';
}

function whoSaid(found: Holders | undefined): string {
  if (found !== undefined && found.length > 0) return describeHolders(found);
  const blind = (found?.unseen ?? []).flatMap(({ pids }) => pids).length;
  const unseen = blind === 0 ? '' : ` (${blind} could not be looked at)`;
  return `a file in it is open, a process has its directory there${unseen}, or something is mounted below`;
}

// The error that it is for must not be lost to another.
const who = (mount: Buffer | MountRef) => holders(mount).catch(() => undefined);

function explainUnmountFailure(
  error: unknown,
  target = 'the detached view',
  found: Holders | undefined,
): unknown {
  if (!isNativeError(error)) return error;
  return unmountError(error, target, found);
}

function unmountError(error: NativeError, target: string, found: Holders | undefined): OverlayError {
  const { errno } = constants;
  const details = { path: target, ...nativeDetails(error) };
  if (error.syscall === 'syncfs' || error.syscall === 'unlinkat') {
    return overlayError(
      'ERR_OVERLAY_SYNC_FAILED',
      `the overlay is unmounted, but its upper could not be made durable: ${whatFailed(error)}`,
      'The volatile marker is still there: treat the upper as damaged',
      details,
    );
  }
  switch (-error.errno) {
    case errno.ECANCELED:
      return exiting(error);
    case errno.EBUSY:
      return error.syscall === 'umount2'
        ? overlayError(
            'ERR_OVERLAY_BUSY',
            `${target} is busy: ${whoSaid(found)}`,
            'Close what is open there and unmount again; `lazy` detaches it regardless',
            { ...details, ...(found === undefined ? {} : { holders: found }) },
          )
        : covered(details);
    case errno.EPERM:
    case errno.EACCES:
      return overlayError(
        'ERR_OVERLAY_NO_PRIVILEGE',
        `unmounting ${target} needs CAP_SYS_ADMIN`,
        'Do it as the user who mounted it',
        details,
      );
    case errno.EOPNOTSUPP:
      return overlayError(
        'ERR_OVERLAY_UNMOUNT_FAILED',
        `${target} is the root directory of this process, which umount2(2) would make read-only and leave mounted`,
        'Unmount it from outside, or with lazy',
        details,
      );
    default:
      if (
        error.syscall === 'umount2'
          ? -error.errno === errno.EINVAL
          : ['fstatfs', 'openat'].includes(error.syscall)
      ) {
        return overlayError(
          'ERR_OVERLAY_NOT_AN_OVERLAY',
          `no overlay is mounted at ${target}`,
          'Name the directory that it is mounted on; listOverlays() tells all',
          details,
        );
      }
      return overlayError(
        'ERR_OVERLAY_UNMOUNT_FAILED',
        `${target}: ${whatFailed(error)}`,
        'See errno',
        details,
      );
  }
}
