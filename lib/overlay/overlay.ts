/**
 * The handle of a mounted overlay.
 * @module
 */
import type { FileHandle } from 'node:fs/promises';
import { binding } from '../addon.ts';
import { closed } from '../arguments.ts';
import { invalidArgument, OverlayError, overlayError } from '../errors.ts';
import type { NativeHandle, NativeMounted } from '../native/binding.ts';
import { absolutePath, exactString, joinInside, pathBytes, showPath } from '../paths.ts';
import type { DirRef, LayerSource, LayerStack, MountRef, PathLike } from '../types.ts';
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

  /** A descriptor of the overlay's root directory. The caller's to close; while it is open, `unmount()` is busy. */
  async openRoot(): Promise<number> {
    return this.#onHandle('ERR_OVERLAY_UNREACHABLE', () => openRoot(this.#handle));
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
