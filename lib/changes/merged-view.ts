/**
 * The merged tree, read from its layers with no mount.
 * @module
 */
import { constants, createReadStream, type ReadStream } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { binding } from '../addon.ts';
import { boolean, checked, integer } from '../arguments.ts';
import { invalidArgument, OverlayError, overlayError } from '../errors.ts';
import type { MountedOverlay } from '../inspect/mount-table.ts';
import { explainInside } from '../layer/explain.ts';
import { isMountedOverlay, stackOfMount } from '../layer/mounted.ts';
import { layerPlace } from '../layer/place.ts';
import { refusal } from '../layer/refusal.ts';
import { checkStack, pathInLayer, settleStack, workMustBeGiven } from '../layer/stack.ts';
import { readOverlayXattrs } from '../layer/xattrs.ts';
import type { NativeLayerNames, NativeMergedView, NativeStack } from '../native/binding.ts';
import { isNativeError, nativeDetails } from '../native-errors.ts';
import { showPath } from '../paths.ts';
import type { LayerSource, LayerStack, PathLike } from '../types.ts';
import { type MergedDirent, type MergedStats, readDirents, readStats } from './merged-record.ts';

const offset = integer(0, Number.MAX_SAFE_INTEGER);

/** How to read layers as one tree. */
export interface MergedViewOptions {
  /**
   * Reads layers without the privilege that `trusted.overlay.*` asks for, as if they held none: right for layers that
   * have only whiteouts that are devices, wrong in silence for any others. Layers with `userxattr` do not need it.
   */
  readonly assumeNoXattrs?: boolean;
}

/** What `walk()` tells. */
export interface WalkOptions {
  /** `stats` of each entry. Default false. */
  readonly stats?: boolean;
}

/** One entry of the tree. */
export interface MergedTreeEntry extends MergedDirent {
  /** From the root, for people; `pathBytes` are the bytes. */
  readonly path: string;
  readonly pathBytes: Buffer;
}

/**
 * The merged tree of a stack, read-only. Paths are names from its root (`etc/hosts`; `.` is the root itself); no symbolic
 * link is followed. What is not there is an error of `node:fs`'s own shape; what the kernel would refuse to look up is an
 * OverlayError that says why.
 */
export class MergedView implements AsyncDisposable {
  readonly #view: NativeMergedView;
  readonly #names: NativeLayerNames;
  readonly #stack: NativeStack;
  #closed = false;
  /** True: `trusted.overlay.*` could not be read, and the layers were taken to have none, as was asked for. */
  readonly assumesNoXattrs: boolean;

  /** @internal */
  constructor(
    { view, ...names }: NativeLayerNames & { readonly view: NativeMergedView },
    stack: NativeStack,
    assumesNoXattrs: boolean,
  ) {
    this.#view = view;
    this.#names = names;
    this.#stack = stack;
    this.assumesNoXattrs = assumesNoXattrs;
  }

  /** The entries of a directory, in byte order; whiteouts left out, those too that readdir(3) of a mount would list. */
  async readdir(path: PathLike, options: { readonly stats?: boolean } = {}): Promise<MergedDirent[]> {
    const { stats = false } = checked(options, { stats: boolean });
    const bytes = pathInLayer(path, 'path');
    return [
      ...readDirents(await this.#ask(bytes, () => binding().mergedList(this.#view, bytes, stats)), stats),
    ];
  }

  /** What lstat(2) tells: of a symbolic link itself. */
  async stat(path: PathLike): Promise<MergedStats> {
    const bytes = pathInLayer(path, 'path');
    return readStats(await this.#ask(bytes, () => binding().mergedStat(this.#view, bytes)));
  }

  /** The bytes that a symbolic link leads to. */
  async readlink(path: PathLike): Promise<Buffer> {
    const bytes = pathInLayer(path, 'path');
    return this.#ask(bytes, () => binding().mergedLink(this.#view, bytes));
  }

  /** The extended attributes as the overlay shows them: without its own. Names are for people where they are not UTF-8. */
  async xattrs(path: PathLike): Promise<Map<string, Buffer>> {
    const bytes = pathInLayer(path, 'path');
    const pairs = await this.#ask(bytes, () => binding().mergedXattrs(this.#view, bytes));
    return new Map(pairs.map(([name, value]) => [showPath(name), value]));
  }

  /** Opens a regular file for reading; `EISDIR`, `ELOOP` (a symbolic link) or `EINVAL` for anything else. */
  async open(path: PathLike): Promise<FileHandle> {
    const bytes = pathInLayer(path, 'path');
    const { fd, opened } = await this.#ask(bytes, () => binding().mergedOpen(this.#view, bytes));
    const name = `/proc/self/fd/${fd}`;
    try {
      // Reading is not to be seen in the layer, where the file is this user's, or the user is root.
      // And should it have become a FIFO since it was looked up, opening it does not wait.
      const flags = constants.O_RDONLY | constants.O_NONBLOCK;
      return await open(name, flags | constants.O_NOATIME).catch((error) => {
        if (error.code !== 'EPERM') throw error;
        return open(name, flags);
      });
    } finally {
      binding().closeOpened(opened);
    }
  }

  /** The content of a regular file. */
  async readFile(path: PathLike): Promise<Buffer> {
    await using file = await this.open(path);
    return await file.readFile();
  }

  /** The same as a stream, which closes what it reads from. `end` is the last byte that is read. */
  async createReadStream(
    path: PathLike,
    options: { readonly start?: number; readonly end?: number } = {},
  ): Promise<ReadStream> {
    // Before it is opened: node:fs would hold on to a file that it refuses to read.
    const { start = 0, end } = checked(options, { start: offset, end: offset });
    if (end !== undefined && end < start)
      throw invalidArgument('options.end', end, 'must not lie before start');
    const file = await this.open(path);
    return createReadStream('', { start, ...(end === undefined ? {} : { end }), fd: file });
  }

  /**
   * Everything below a directory, each directory before what it holds, names in byte order; the directory itself is not
   * told. One crossing for each directory.
   */
  async *walk(
    path: PathLike = '.',
    options: WalkOptions = {},
  ): AsyncGenerator<MergedTreeEntry, void, undefined> {
    const { stats = false } = checked(options, { stats: boolean });
    const open = [this.#below(pathInLayer(path, 'path'), stats)];
    while (open.length > 0) {
      const { value: entry, done } = await (open.at(-1) as (typeof open)[number]).next();
      if (done) {
        open.pop();
        continue;
      }
      yield entry;
      if (entry.type === 'directory' && entry.errno === undefined)
        open.push(this.#below(entry.pathBytes, stats));
    }
  }

  /** Closes the layers. What is under way is finished. */
  async close(): Promise<void> {
    this.#closed = true;
    binding().closeMergedView(this.#view);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async *#below(directory: Buffer, stats: boolean): AsyncGenerator<MergedTreeEntry, void, undefined> {
    const packed = await this.#ask(directory, () => binding().mergedList(this.#view, directory, stats));
    for (const entry of readDirents(packed, stats)) {
      const pathBytes =
        directory.length === 0
          ? entry.nameBytes
          : Buffer.concat([directory, Buffer.from('/'), entry.nameBytes]);
      yield { ...entry, path: showPath(pathBytes), pathBytes };
    }
  }

  async #ask<T>(path: Buffer, verb: () => Promise<T>): Promise<T> {
    if (this.#closed) {
      throw overlayError(
        'ERR_OVERLAY_VIEW_CLOSED',
        'the merged view has been closed, and its layers with it',
        'Open it again, or close it later',
      );
    }
    try {
      return await verb();
    } catch (error) {
      if (!isNativeError(error) || error.refused === undefined) throw explainInside(error, path);
      const finding = refusal(error.refused.why, layerPlace(error.refused, this.#stack, this.#names));
      throw new OverlayError([finding], { ...nativeDetails(error), path: showPath(path) });
    }
  }
}

/**
 * Opens layers to be read as the one tree that a mount of them would show, with no mount: redirects, metacopy files,
 * whiteouts of both forms and the index are read as the kernel reads them. The layers must not change meanwhile.
 *
 * @see https://docs.kernel.org/filesystems/overlayfs.html
 *
 * @throws OverlayError `ERR_OVERLAY_XATTR_HIDDEN` without privilege, unless `userxattr` or `assumeNoXattrs` is set;
 * `ERR_OVERLAY_WORK_NEEDED` where `index` is set without `work`, or the upper was written with one; `ERR_OVERLAY_LAYER_NOT_FOUND` and the like.
 *
 * @example
 * ```ts
 * import { mergedView } from 'overlayfs';
 *
 * await using view = await mergedView({ lower: ['/srv/app', '/srv/base'], upper: '/srv/upper' });
 * console.log((await view.readFile('etc/hosts')).toString());
 * for await (const { path, stats } of view.walk('.', { stats: true })) console.log(path, stats?.size);
 * ```
 */
export async function mergedView(
  source: LayerStack | LayerSource | MountedOverlay,
  options: MergedViewOptions = {},
): Promise<MergedView> {
  const { assumeNoXattrs = false } = checked(options, { assumeNoXattrs: boolean });
  const stack = checkStack(isMountedOverlay(source) ? await stackOfMount(source) : source);
  const { native, xattrsHidden } = await settleStack(stack, { assumeNoXattrs });
  workMustBeGiven(native);
  if (!xattrsHidden) await refuseLostIndex(native);
  const opened = await binding()
    .openMergedView(native)
    .catch((error) => {
      throw explainInside(error, Buffer.alloc(0));
    });
  return new MergedView(opened, native, xattrsHidden);
}

// Only an index ties an upper to its lower; without it names of one inode would be told apart.
async function refuseLostIndex(stack: NativeStack): Promise<void> {
  const { upper, work, userxattr } = stack;
  if (upper === undefined || work !== undefined) return;
  const ref = typeof upper === 'number' ? { fd: upper } : upper;
  const root = await readOverlayXattrs(ref, '.', { userxattr });
  if (root.some(({ kind }) => kind === 'origin')) workMustBeGiven(stack, Buffer.from('.'));
}
