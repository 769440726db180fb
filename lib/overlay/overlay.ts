/**
 * The handle of a mounted overlay.
 * @module
 */
import { close, constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { constants as os } from 'node:os';
import { promisify } from 'node:util';
import { fileError, invalidArgument, OverlayError, overlayError } from '../errors.ts';
import type { NativeAttached, NativeHandle, NativeMounted } from '../native/binding.ts';
import { binding } from '../native/load.ts';
import { absolutePath, exactString, pathBytes, showPath } from '../paths.ts';
import type { DirRef, LayerSource, LayerStack, MountRef, PathLike } from '../types.ts';
import { exiting, isNativeError, nativeDetails, whatFailed } from './explain.ts';
import { O_PATH, openFlags } from './open-flags.ts';
import { closed } from './options.ts';
import type { OverlayPlan, PreparedPlan } from './plan.ts';
import type { MountReport } from './report.ts';
import { unmountOnSignals } from './signals.ts';
import { checkUnmountOptions, type UnmountOptions, unmountKeys, whileBusy } from './unmount.ts';

const closeFd = promisify(close);

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
  /** Every option as it was to be sent. */
  readonly plan: OverlayPlan;
  /** How it came to be: the rung used, fallbacks, degradations, what could not be checked. */
  readonly report: MountReport;

  readonly #handle: NativeHandle;
  readonly #layers: NativeMounted['layers'];
  readonly #pending = new Set<Promise<unknown>>();
  readonly #ignoreSignals: () => void;
  #fd: number | undefined;
  #target: Buffer | undefined;
  #mountId: bigint;
  #unmounting: Promise<void> | undefined;
  #unmounted = false;

  /** @internal */
  constructor(
    mounted: NativeMounted,
    prepared: PreparedPlan,
    report: MountReport,
    signals: readonly NodeJS.Signals[],
  ) {
    this.plan = prepared.plan;
    this.report = report;
    this.#handle = mounted.handle;
    this.#layers = mounted.layers;
    this.#fd = mounted.fd;
    this.#target = prepared.native.target;
    this.#mountId = mounted.mountId;
    this.#ignoreSignals = unmountOnSignals(signals, mounted.handle);
  }

  /** Where it is attached; absent while detached. Bytes that are not UTF-8 are shown as `\xNN`: see `targetBytes`. */
  get target(): string | undefined {
    return this.#target === undefined ? undefined : showPath(this.#target);
  }

  /** The same in bytes. */
  get targetBytes(): Buffer | undefined {
    return this.#target;
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
    const { lower, dataOnlyLower, upper, work } = this.#layers;
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
    const root = this.#target ?? Buffer.from(`/proc/self/fd/${this.#fd}`);
    const names: string[] = [];
    for (const segment of segments) {
      for (const name of pathBytes(segment, 'path').toString('latin1').split('/')) {
        if (name === '' || name === '.') continue;
        if (name !== '..') names.push(name);
        else if (names.pop() === undefined) {
          throw overlayError(
            'ERR_OVERLAY_PATH_ESCAPES',
            'the path leads out of the overlay by `..`',
            'Give a path inside the overlay',
          );
        }
      }
    }
    const inside = names.map((name) => `/${name}`).join('');
    return Buffer.concat([
      root.equals(Buffer.from('/')) && inside !== '' ? Buffer.alloc(0) : root,
      Buffer.from(inside, 'latin1'),
    ]);
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
    if (!Number.isInteger(mode) || mode < 0 || mode > 0o7777)
      throw invalidArgument('mode', mode, 'must be an octal mode');
    const { O_CREAT, O_EXCL, O_TRUNC, O_NOFOLLOW, O_DIRECTORY } = constants;
    // A file that exists is only located here, and really opened under the name of its descriptor: opening a FIFO or a
    // device twice would not be the same.
    const creates = (bits & O_CREAT) !== 0;
    const located = await this.#onHandle(async () => {
      const locate = creates ? bits : O_PATH | (bits & (O_NOFOLLOW | O_DIRECTORY));
      try {
        return await binding().openInRoot(this.#handle, bytes, locate, creates ? mode : 0);
      } catch (error) {
        throw isNativeError(error)
          ? this.#explainOpen(error.errno, error.syscall, showPath(bytes), error)
          : error;
      }
    });
    try {
      return await open(
        `/proc/self/fd/${located}`,
        bits & ~(creates ? O_CREAT | O_EXCL | O_TRUNC | O_NOFOLLOW : O_NOFOLLOW),
      );
    } catch (error) {
      const { errno = 0, syscall = 'open' } = error as NodeJS.ErrnoException;
      throw fileError(errno, syscall, showPath(bytes));
    } finally {
      await closeFd(located);
    }
  }

  /** A descriptor of the overlay's root directory. The caller's to close; while it is open, `unmount()` is busy. */
  async openRoot(): Promise<number> {
    return this.#onHandle(() =>
      binding()
        .openRoot(this.#handle)
        .catch((error) => this.#explain(error, 'ERR_OVERLAY_NOT_MOUNTED')),
    );
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
    await this.#onHandle(async () => {
      if (this.#target !== undefined) {
        throw overlayError(
          'ERR_OVERLAY_ALREADY_ATTACHED',
          `the overlay is attached at ${this.target}`,
          'Bind-mount it, or mount another',
          { path: showPath(path) },
        );
      }
      const attached = await binding()
        .attach(this.#handle, path, mkdirTarget, this.plan.propagation)
        .catch((error) => this.#explainAttach(error, path));
      this.#attachedAt(path, attached);
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
    await this.#onHandle(() =>
      binding()
        .remount(this.#handle, readonly)
        .catch((error) => this.#explain(error, 'ERR_OVERLAY_REMOUNT_FAILED')),
    );
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
    if (this.#unmounted) return;
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
    await Promise.allSettled(this.#pending);
    try {
      await whileBusy(this.target, options, () => binding().unmount(this.#handle, lazy, syncVolatile));
    } catch (error) {
      // The mount itself is gone then.
      if (error instanceof OverlayError && error.code === 'ERR_OVERLAY_SYNC_FAILED') this.#ended();
      throw error;
    }
    this.#ended();
  }

  #ended(): void {
    this.#unmounted = true;
    this.#fd = undefined;
    this.#ignoreSignals();
  }

  #attachedAt(path: Buffer, attached: NativeAttached): void {
    this.#target = path;
    this.#fd = undefined;
    this.#mountId = attached.mountId;
  }

  // unmount() waits for what runs through here.
  async #onHandle<T>(work: () => Promise<T>): Promise<T> {
    this.#mustBeMounted();
    const working = work();
    this.#pending.add(working);
    try {
      return await working;
    } finally {
      this.#pending.delete(working);
    }
  }

  #mustBeMounted(): void {
    if (this.#unmounted || this.#unmounting !== undefined) throw this.#notMounted();
  }

  #notMounted(): OverlayError {
    return overlayError(
      'ERR_OVERLAY_NOT_MOUNTED',
      `the overlay ${this.target ?? '(detached)'} has been unmounted`,
      'Use the handle before unmount()',
    );
  }

  #explain(error: unknown, code: 'ERR_OVERLAY_NOT_MOUNTED' | 'ERR_OVERLAY_REMOUNT_FAILED'): never {
    if (!isNativeError(error)) throw error;
    if (error.errno === -os.errno.ECANCELED) throw exiting(error);
    if (error.errno === -os.errno.ENOENT) throw this.#notMounted();
    const fix = error.errno === -os.errno.EBUSY ? 'Close the files that are open for writing' : 'See errno';
    throw overlayError(
      code,
      `${this.target ?? 'the detached view'}: ${whatFailed(error)}`,
      fix,
      nativeDetails(error),
    );
  }

  #explainOpen(errno: number, syscall: string, path: string, cause: unknown): Error {
    if (syscall === 'statx' || errno === -os.errno.ECANCELED) return this.#notMounted();
    return Object.assign(fileError(errno, syscall, path), { cause });
  }

  #explainAttach(error: unknown, target: Buffer): never {
    if (!isNativeError(error)) throw error;
    const path = showPath(target);
    const details = { ...nativeDetails(error), path };
    switch (-error.errno) {
      case os.errno.ECANCELED:
        throw exiting(error);
      case os.errno.ENOENT:
        throw overlayError(
          'ERR_OVERLAY_TARGET_NOT_FOUND',
          `the target ${path} does not exist`,
          'Make the directory, or set mkdirTarget',
          details,
        );
      case os.errno.ENOTDIR:
        throw overlayError(
          'ERR_OVERLAY_TARGET_NOT_DIRECTORY',
          `the target ${path} is not a directory`,
          'An overlay is mounted on a directory',
          details,
        );
      case os.errno.EPERM:
        throw overlayError(
          'ERR_OVERLAY_NO_PRIVILEGE',
          'attaching needs CAP_SYS_ADMIN',
          'Run it as root, or inside a user namespace',
          details,
        );
      default:
        throw overlayError(
          'ERR_OVERLAY_TARGET_UNREACHABLE',
          `the target ${path} cannot be mounted on: ${whatFailed(error)}`,
          'See errno',
          details,
        );
    }
  }
}
