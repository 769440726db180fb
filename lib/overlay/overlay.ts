/**
 * The handle of a mounted overlay.
 * @module
 */
import type { FileHandle } from 'node:fs/promises';
import { binding } from '../addon.ts';
import { closed } from '../arguments.ts';
import { type ChangeOptions, changes } from '../changes/changes.ts';
import type { ChangeStream } from '../changes/stream.ts';
import { type Summary, type SummaryOptions, summarize } from '../changes/summary.ts';
import { invalidArgument, OverlayError, overlayError } from '../errors.ts';
import type { CopyUpOptions, CopyUpStream } from '../layer/copy-up-stream.ts';
import { type WhichLayer, whichLayer } from '../layer/which-layer.ts';
import type { NativeHandle, NativeMounted } from '../native/binding.ts';
import { absolutePath, exactString, joinInside, pathBytes, showPath } from '../paths.ts';
import type { DirRef, LayerSource, LayerStack, MountRef, PathLike } from '../types.ts';
import { copyUpMounted } from './copy-up.ts';
import {
  alreadyAttached,
  explainAttachFailure,
  explainHandleFailure,
  type HandleErrorCode,
  notMounted,
} from './explain.ts';
import { openFlags } from './open-flags.ts';
import { openInRoot, openRoot } from './open-in-root.ts';
import type { OverlayPlan, PreparedPlan } from './plan.ts';
import { checkRename, type RenameOptions, type RenameResult, renameInOverlay } from './rename.ts';
import type { MountReport } from './report.ts';
import type { SignalGuard } from './signals.ts';
import { checkUnmountOptions, settled, type UnmountOptions, unmountKeys, whileBusy } from './unmount.ts';

/** How to unmount an overlay by its handle. */
export interface OverlayUnmountOptions extends UnmountOptions {
  /** After a volatile mount: make the upper durable and remove the kernel's marker, so that it can be mounted again. */
  readonly syncVolatile?: boolean;
}

/**
 * A mounted overlay: attached at `target`, or a detached view that only its descriptor reaches. Made by
 * {@link mountOverlay}; goes with `await using`, `unmount()`, or the process.
 *
 * @example
 * ```ts
 * import { mountOverlay } from 'overlayfs';
 *
 * // A writable view of /usr that no path leads to and that goes with this process.
 * await using view = await mountOverlay({ lower: '/usr', scratch: true });
 * await using file = await view.open('share/notes.txt', 'w');
 * await file.write('only here');
 * ```
 */
export class Overlay implements AsyncDisposable, LayerSource, MountRef {
  readonly #handle: NativeHandle;
  readonly #prepared: PreparedPlan;
  readonly #pending = new Set<Promise<unknown>>();
  readonly #guard: SignalGuard;
  #report: MountReport;
  #fd: number | undefined;
  #target: Buffer | undefined;
  #mountId: bigint;
  #unmounting: Promise<void> | undefined;
  #unmounted = false;
  #synced = false;

  /** @internal */
  constructor(mounted: NativeMounted, prepared: PreparedPlan, report: MountReport, guard: SignalGuard) {
    this.#report = report;
    this.#handle = mounted.handle;
    this.#prepared = prepared;
    this.#fd = mounted.fd;
    this.#target = prepared.native.target;
    this.#mountId = mounted.mountId;
    this.#guard = guard;
    guard.whenEnded(() => this.#ended());
  }

  /** How it came to be: the rung used, fallbacks, degradations, what could not be checked. */
  get report(): MountReport {
    return this.#report;
  }

  /** Every option as it was to be sent. */
  get plan(): OverlayPlan {
    return this.#prepared.plan;
  }

  /** Where it is attached; absent while detached. Bytes that are not UTF-8 are shown as `\xNN`: see `targetBytes`. */
  get target(): string | undefined {
    return this.#target === undefined ? undefined : showPath(this.#target);
  }

  /** The same in bytes. */
  get targetBytes(): Buffer | undefined {
    return this.#target === undefined ? undefined : Buffer.from(this.#target);
  }

  /** Unique while the system runs where the kernel has such ids (STATX_MNT_ID_UNIQUE, Linux 6.8). */
  get mountId(): bigint {
    return this.#mountId;
  }

  /**
   * While detached: the mount's own descriptor. A child that inherits it shares the view; it stays this handle's to
   * close.
   */
  get fd(): number | undefined {
    return this.#fd;
  }

  /** The layers as open descriptors, valid until `unmount()`, with the options that they are read with. */
  layers(): LayerStack {
    this.#mustBeMounted();
    const refs = (fds: readonly number[]): DirRef[] => fds.map((fd) => ({ fd }));
    const { lower, dataOnlyLower, upper, work } = binding().layers(this.#handle);
    const { index, metacopy, redirect_dir, userxattr } = this.plan.options;
    return {
      lower: refs(lower),
      dataOnlyLower: refs(dataOnlyLower),
      ...(upper === undefined ? {} : { upper: { fd: upper } }),
      ...(work === undefined ? {} : { work: { fd: work } }),
      index: index === 'on',
      metacopy: metacopy === 'on',
      userxattr: userxattr === true,
      ...(redirect_dir === undefined
        ? {}
        : { redirectDir: redirect_dir as NonNullable<LayerStack['redirectDir']> }),
    };
  }

  /**
   * A path inside the overlay: `<target>/…`, or `/proc/self/fd/N/…` while detached (which means something only in this
   * process). Lexical: `..` cannot leave the root, but symbolic links are followed as in any path; for content that is
   * not trusted use {@link open}.
   *
   * @throws OverlayError `ERR_OVERLAY_PATH_ESCAPES`, or `ERR_OVERLAY_PATH_NOT_UTF8` where only {@link pathBytes} will do.
   */
  path(...segments: PathLike[]): string {
    const bytes = this.pathBytes(...segments);
    const path = exactString(bytes);
    if (path !== undefined) return path;
    throw overlayError(
      'ERR_OVERLAY_PATH_NOT_UTF8',
      `${showPath(bytes)} is not UTF-8, so no string stands for it`,
      'Use pathBytes(): node:fs takes a Buffer wherever it takes a path',
    );
  }

  /** The same in bytes. */
  pathBytes(...segments: PathLike[]): Buffer {
    this.#mustBeMounted();
    return joinInside(this.#target ?? Buffer.from(`/proc/self/fd/${this.#fd}`), segments);
  }

  /**
   * Opens a file inside the overlay, for content that is not trusted: neither `..` nor a symbolic link leads out of it
   * (absolute ones start at its root). Flags and mode are those of `fs.promises.open`.
   *
   * Rests on openat2(2) with RESOLVE_IN_ROOT.
   *
   * @throws an error of `node:fs`'s own shape (`ENOENT`, …).
   */
  async open(path: PathLike, flags: string | number = 'r', mode = 0o666): Promise<FileHandle> {
    const bytes = pathBytes(path, 'path');
    const bits = openFlags(flags);
    if (!Number.isInteger(mode) || mode < 0 || mode > 0o7777) {
      throw invalidArgument('mode', mode, 'must be an octal mode');
    }
    return this.#onHandle('ERR_OVERLAY_UNREACHABLE', () => openInRoot(this.#handle, bytes, bits, mode));
  }

  /**
   * Which layer serves a path of this overlay, the way there, and what lies hidden below it: as `whichLayer()`, from the
   * layers that this handle holds open.
   */
  async whichLayer(path: PathLike): Promise<WhichLayer> {
    return this.#onHandle('ERR_OVERLAY_UNREACHABLE', () => whichLayer(this, path));
  }

  /** A descriptor of the overlay's root directory. The caller's to close; while it is open, `unmount()` is busy. */
  async openRoot(): Promise<number> {
    return this.#onHandle('ERR_OVERLAY_UNREACHABLE', () => openRoot(this.#handle));
  }

  /**
   * Copies files up ahead of time, so that the first write is not the slow one. The kernel does it, on several threads: a
   * regular file is opened for writing, and closed; for all else the time of last access is set to what it is. Nothing
   * that a user of the overlay could see changes, but for times of change; FIFOs and devices are not opened. A program that
   * is started at the very moment at which its file is open for writing gets ETXTBSY.
   *
   * Paths are inside the overlay, and name a symbolic link itself; with `recursive`, directories with all that is below
   * them, but for what is on other mounts. What is immutable, append-only or in the upper already is `skipped`, and
   * `reason` says so. Until the stream has ended, the overlay is busy.
   *
   * @returns a stream of what became of each path: `await` it, or go through it.
   * @throws an error of `node:fs`'s own shape where a file cannot be copied up (`ENOENT`, `EROFS`, `ENOSPC`, …).
   *
   * @example
   * ```ts
   * import { mountOverlay } from 'overlayfs';
   *
   * await using overlay = await mountOverlay({ lower: '/srv/base', upper: '/srv/upper', work: '/srv/work' });
   * for await (const { path, method, reason } of overlay.copyUp('var/lib/db', { recursive: true })) {
   *   if (method === 'skipped') console.log(`${path}: ${reason}`);
   * }
   * ```
   */
  copyUp(paths: PathLike | readonly PathLike[], options: CopyUpOptions = {}): CopyUpStream {
    this.#mustBeMounted();
    const metacopy = this.plan.options.metacopy === 'on';
    return copyUpMounted(this.#handle, paths, options, metacopy, (work) =>
      this.#onHandle('ERR_OVERLAY_UNREACHABLE', work),
    );
  }

  /**
   * Renames what rename(2) renames, and directories for which the kernel has only EXDEV: those that a lower layer has,
   * without `redirectDir: 'on'`. Such a directory is copied to a name of its own beside `to`
   * (`.overlayfs-rename-<random>`), with everything that belongs to it: owners, modes, times, extended attributes, ACLs,
   * capabilities, hard links inside it, holes; data is shared where the file system can. The copy is made durable and the
   * original looked at again; one rename(2) publishes it, and the original is removed. An error, an abort or a change of
   * the original before that takes everything back; after it the call only goes forward.
   *
   * Refused: what would not survive being copied. Something mounted below, immutable and append-only files, sockets that a
   * process has bound, files open for writing (as far as a lease, fcntl(2), tells). Not kept: inode numbers, times of birth
   * and change, what others have open, their current directories, locks and watches, hard links that lead out of the
   * directory, and what is written between the second look and the end.
   *
   * A process that is killed over it leaves the original whole with the copy beside it, or the copy in place with a rest
   * of the original. The next rename to the same directory removes such a copy, if its lock (flock(2)) and a marker in it
   * show that it is one and nobody's any more.
   *
   * Paths are inside the overlay; the last name is never followed.
   *
   * @throws an error of `node:fs`'s own shape for all that rename(2) refuses (`ENOENT`, `ENOTEMPTY`, `EINVAL`, `EEXIST`
   * with `noreplace`, `EXDEV` for `exchange` with such a directory or another mount, …) and for a copy that fails
   * (`ENOSPC`, …); OverlayError `ERR_OVERLAY_RENAME_REFUSED`, `ERR_OVERLAY_RENAME_CHANGED`,
   * `ERR_OVERLAY_RENAME_HALF_DONE`.
   *
   * @example
   * ```ts
   * import { mountOverlay } from 'overlayfs';
   *
   * await using overlay = await mountOverlay({ lower: '/srv/base', upper: '/srv/upper', work: '/srv/work' });
   * const { method, entries } = await overlay.rename('etc', 'etc.old', { noreplace: true });
   * console.log(method === 'copy' ? `copied ${entries} files and directories` : 'renamed');
   * ```
   */
  async rename(from: PathLike, to: PathLike, options: RenameOptions = {}): Promise<RenameResult> {
    const checked = checkRename(from, to, options);
    return this.#onHandle('ERR_OVERLAY_UNREACHABLE', () => renameInOverlay(this.#handle, checked));
  }

  /**
   * Attaches a detached view. From then on it has a `target` and no `fd`.
   *
   * Rests on move_mount(2).
   */
  async attach(target: PathLike, options: { readonly mkdirTarget?: boolean } = {}): Promise<void> {
    const path = absolutePath(target, 'target');
    const { mkdirTarget = false } = closed(options, 'options', ['mkdirTarget']);
    if (typeof mkdirTarget !== 'boolean')
      throw invalidArgument('mkdirTarget', mkdirTarget, 'must be a boolean');
    await this.#onHandle('ERR_OVERLAY_UNREACHABLE', async () => {
      if (this.#target !== undefined) throw alreadyAttached(path);
      const attaching = binding().attach(this.#handle, path, mkdirTarget, this.plan.propagation);
      const attached = await attaching.catch((error) => {
        throw explainAttachFailure(error, path);
      });
      this.#target = path;
      this.#fd = undefined;
      this.#mountId = attached.mountId;
      const { madeTarget, propagated } = attached;
      this.#report = { ...this.#report, madeTarget, propagated };
    });
  }

  /**
   * Makes the superblock read-only or writable again. `EBUSY` while files are open for writing.
   *
   * Rests on fspick(2), or mount(2) with MS_REMOUNT.
   */
  async remount(options: { readonly readonly: boolean }): Promise<void> {
    const { readonly } = closed(options, 'options', ['readonly']);
    if (typeof readonly !== 'boolean') throw invalidArgument('readonly', readonly, 'must be a boolean');
    await this.#onHandle('ERR_OVERLAY_REMOUNT_FAILED', () => binding().remount(this.#handle, readonly));
  }

  /**
   * Tells what has changed in this overlay, as {@link changes} of its layers; those are opened when the iteration begins,
   * which must be before `unmount()`. What is written meanwhile makes it inconsistent, which `done` says.
   */
  changes(options: ChangeOptions = {}): ChangeStream {
    return changes(this, options);
  }

  /** Sums up what has changed in this overlay, as {@link summarize} of its layers. */
  summarize(options: SummaryOptions = {}): Promise<Summary> {
    return this.#onHandle('ERR_OVERLAY_UNREACHABLE', () => summarize(this, options));
  }

  /**
   * Unmounts by identity: this mount, wherever it has been moved, and never another. Waits for what is pending on this
   * handle, tries again while it is busy, and does nothing the second time.
   *
   * Unmounting a writable overlay that is not volatile syncs the whole file system of the upper, and may take seconds.
   *
   * @throws OverlayError `ERR_OVERLAY_BUSY` after `timeout`; `ERR_OVERLAY_TARGET_COVERED` when another mount lies on
   * top. It stays mounted then, and `unmount()` can be called again.
   */
  async unmount(options: OverlayUnmountOptions = {}): Promise<void> {
    checkUnmountOptions(options, [...unmountKeys, 'syncVolatile']);
    const { lazy = false, syncVolatile = false } = options;
    if (typeof syncVolatile !== 'boolean')
      throw invalidArgument('syncVolatile', syncVolatile, 'must be a boolean');
    if (lazy && syncVolatile) {
      throw overlayError(
        'ERR_OVERLAY_OPTIONS_CONTRADICT',
        'after a lazy unmount files may still be written, so syncVolatile can promise nothing',
        'Leave one of the two out',
      );
    }
    while (this.#unmounting !== undefined) await this.#unmounting.catch(() => {});
    if (this.#unmounted) {
      // What has been unmounted otherwise has not been synced, and saying nothing would say that it has.
      if (syncVolatile && !this.#synced) throw notMounted(this.#name());
      return;
    }
    this.#unmounting = this.#unmount(options, lazy, syncVolatile);
    try {
      await this.#unmounting;
    } finally {
      this.#unmounting = undefined;
    }
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.unmount();
  }

  async #unmount(options: UnmountOptions, lazy: boolean, syncVolatile: boolean): Promise<void> {
    await settled(this.#pending, options);
    try {
      await whileBusy(this, options, () => binding().unmount(this.#handle, lazy, syncVolatile));
    } catch (error) {
      // The mount itself is gone then.
      if (error instanceof OverlayError && error.code === 'ERR_OVERLAY_SYNC_FAILED') this.#ended();
      throw error;
    }
    this.#synced = syncVolatile;
    this.#ended();
  }

  #ended(): void {
    this.#unmounted = true;
    this.#fd = undefined;
    this.#guard.release();
  }

  // unmount() waits for what runs through here.
  async #onHandle<T>(otherwise: HandleErrorCode, work: () => Promise<T>): Promise<T> {
    this.#mustBeMounted();
    const working = work();
    this.#pending.add(working);
    try {
      return await working;
    } catch (error) {
      throw explainHandleFailure(error, this.#name(), otherwise);
    } finally {
      this.#pending.delete(working);
    }
  }

  #mustBeMounted(): void {
    if (this.#unmounted || this.#unmounting !== undefined) throw notMounted(this.#name());
  }

  #name(): string {
    return this.target ?? '(detached)';
  }
}
