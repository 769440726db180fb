/**
 * A store of layers as its users see it: the same for every storage driver.
 * @module
 */
import type { Change } from '../changes/change.ts';
import type { ChangeOptions } from '../changes/changes.ts';
import type { ChangeStream } from '../changes/stream.ts';
import type { Overlay } from '../overlay/overlay.ts';
import type { UnmountOptions } from '../overlay/unmount.ts';
import type { DirRef, Finding, LayerStack, PathLike } from '../types.ts';

/**
 * The layouts that Docker's storage drivers have on disk: `overlay2`, where the kernel stacks every layer's own content; `overlay`,
 * the legacy one, where each image layer is a whole tree of hard links and the kernel stacks one of them, for every kernel since
 * Linux 3.18.
 */
export type StoreDriver = 'overlay2' | 'overlay';

/**
 * What has been made durable when a call resolves: `syncfs`, everything, the content of layers too (one syncfs(2) for each
 * layer that is filled); `metadata`, every file and directory of the store itself (fsync(2)), but not the content; `none`,
 * nothing. Whatever it is, a layer is there whole or not at all for every process that looks.
 */
export type Durability = 'syncfs' | 'metadata' | 'none';

/** How to open a store. */
export interface StoreOptions {
  readonly driver: StoreDriver;
  /** Default `'syncfs'`. */
  readonly durability?: Durability;
  /** Never write, whoever the store belongs to. Default false. */
  readonly readonly?: boolean;
  /**
   * Write to a store that another program has made. Refused while that program lives. Without it such a store is opened
   * for reading only.
   */
  readonly foreign?: 'write';
  /** Take a root directory that belongs to somebody else or that others may write to. Default false. */
  readonly force?: boolean;
  /** How long to wait for what another process, or another call, is doing in the store, in milliseconds. Default 10000. */
  readonly lockTimeout?: number;
}

/** What a layer is for: an `image` layer is only read, a `container` layer is written to through its mount. */
export type LayerKind = 'image' | 'container';

/** One layer of a store. */
export interface Layer {
  readonly id: string;
  /** The layer below; absent of a base layer. */
  readonly parent?: string;
  /** As it was created. Of a layer that another program has made nothing on disk says so. */
  readonly kind: LayerKind | 'unknown';
  /**
   * It is an image layer, or it has a child: it is mounted read-only, and its content does not change any more. So is what has
   * lost `overlayfs.json`'s word on it, until that is put back.
   */
  readonly readonly: boolean;
  /** The layer's own directory. Bytes of the root that are not UTF-8 are shown as `\xNN`. */
  readonly path: string;
  /** Whether this package has made it. */
  readonly own: boolean;
}

/** How to create a layer. */
export interface CreateLayerOptions {
  /** The layer below; a container layer has one always. */
  readonly parent?: string;
  readonly kind: LayerKind;
}

/** How much of a layer's content has been copied. */
export interface LayerProgress {
  /** Files and directories; of changes, those that are done in the phase of `applyChanges()` that is under way. */
  readonly entries: number;
  /** Bytes of data. */
  readonly bytes: bigint;
}

/** How to give a layer its content. */
export interface FillOptions {
  /** Takes everything back. */
  readonly signal?: AbortSignal;
  /** Called about ten times a second. */
  readonly onProgress?: (done: LayerProgress) => void;
}

/** How to mount a layer. */
export interface MountLayerOptions {
  /** Default: false for a container layer that has no child, and true for every other. */
  readonly readonly?: boolean;
  /** Where, in place of the layer's own `merged`; it must be there. */
  readonly target?: PathLike;
  /** Leave it mounted when the process ends. Default true: a container outlives the program that started it. */
  readonly keepOnExit?: boolean;
  readonly signal?: AbortSignal;
}

/** How much a layer takes. What its parents hold is not counted. */
export interface Usage {
  /** The sum of all sizes, each inode once; directories are not counted, as Docker does not. */
  readonly apparent: bigint;
  /** What is allocated on disk, directories too, in bytes. */
  readonly allocated: bigint;
  readonly inodes: bigint;
  /** Of `allocated`, with `shared`: what removing the layer would not free. */
  readonly shared?: {
    /** In files that have names outside the layer too. */
    readonly hardLinked: bigint;
    /** In extents that other files share (FIEMAP). */
    readonly reflinked: bigint;
  };
}

/** What {@link LayerStore.check} has found. */
export interface StoreFinding extends Finding {
  /** The layer that it is about. */
  readonly id?: string;
  /** Whether `repair` can mend it. */
  readonly repairable: boolean;
  /** Whether it has been mended. */
  readonly repaired: boolean;
}

/** Something that {@link LayerStore.gc} removes. */
export interface Garbage {
  /**
   * `half-made`: a layer that was never finished; `removed`: one whose removal was not finished; `dangling-link`: a link in
   * `l` that leads nowhere, or to a layer that is called something else and that nothing names by it.
   */
  readonly kind: 'half-made' | 'removed' | 'dangling-link';
  /** Below the root. */
  readonly path: string;
  /** Whether it is gone: always, but for `dryRun` and what could not be removed. */
  readonly removed: boolean;
  readonly error?: unknown;
}

/**
 * A store of image layers and container layers, in the layout of one of Docker's storage drivers. Several processes can use
 * one store at once: what they must not do at the same time is serialised by locks (flock(2)) that die with their process,
 * and whether a layer is mounted is asked of the kernel.
 *
 * Ids are the caller's: letters, digits, `_`, `.` and `-`, beginning with a letter or a digit, at most 255 bytes; not `l`.
 * What is passed for an id and names no layer is `ERR_OVERLAY_STORE_LAYER_NOT_FOUND`.
 *
 * @example
 * ```ts
 * import { openStore } from 'overlayfs/store';
 *
 * await using store = await openStore('/var/lib/box/overlay2', { driver: 'overlay2' });
 * await store.create('base', { kind: 'image' });
 * await store.apply('base', '/srv/rootfs');
 * await store.create('box', { kind: 'container', parent: 'base' });
 * {
 *   await using box = await store.mount('box');
 *   console.log(box.path('etc/hosts')); // /var/lib/box/overlay2/box/merged/etc/hosts
 * }
 * await store.commit('box', { id: 'next' });
 * await store.remove('box');
 * ```
 */
export interface LayerStore extends AsyncDisposable {
  /** Canonical. Bytes that are not UTF-8 are shown as `\xNN`. */
  readonly root: string;
  readonly driver: StoreDriver;
  /** Another program has made it. */
  readonly foreign: boolean;
  /** Whether it is only read. */
  readonly readonly: boolean;

  /**
   * Makes an empty layer. It is there whole or not at all. The parent is read-only from then on. Where it rejects nothing is
   * changed, but for one case: the layer has its name, and the last fsync(2) failed. The message says that it is there.
   *
   * @throws OverlayError `ERR_OVERLAY_STORE_LAYER_EXISTS`, `ERR_OVERLAY_TOO_MANY_LOWERS` for a chain of more than 500,
   * `ERR_OVERLAY_STORE_LAYER_IN_USE` for a parent that is mounted and written to.
   */
  create(id: string, options: CreateLayerOptions): Promise<Layer>;
  /**
   * Gives an empty layer its content: a copy of a directory (whiteouts and opaque marks in it are those of the layer; files
   * are cloned where the file system can), or changes, which are applied to what the layer's parents show. The content is
   * complete before it is in place, and taken out again where that fails. After a kill the layer is as before or has all of it.
   *
   * @throws OverlayError `ERR_OVERLAY_STORE_LAYER_READONLY` for a layer that has a child or is not empty,
   * `ERR_OVERLAY_STORE_LAYER_IN_USE` for one that is mounted, `ERR_OVERLAY_TARGET_OVERLAPS` for a directory that the store
   * lies in.
   */
  apply(
    id: string,
    content: DirRef | ChangeStream | Iterable<Change> | AsyncIterable<Change>,
    options?: FillOptions,
  ): Promise<Layer>;
  /**
   * Mounts a layer on its chain, at `<id>/merged` (made with mode 0700, and removed at the unmount).
   *
   * @throws OverlayError `ERR_OVERLAY_STORE_LAYER_IN_USE` for a layer that is mounted there already, or in another mount
   * namespace, and what `mountOverlay()` throws.
   */
  mount(id: string, options?: MountLayerOptions): Promise<Overlay>;
  /**
   * Unmounts what is mounted of a layer in this mount namespace, at `merged` and elsewhere, whoever mounted it; nothing is no
   * error. What is mounted in other namespaces stays, and so does `merged` then.
   */
  unmount(id: string, options?: UnmountOptions): Promise<void>;
  /**
   * Makes an image layer of what a container layer holds (a copy, cloned where the file system can). The container layer stays.
   * Whole or not at all, as `create()`.
   *
   * @throws OverlayError `ERR_OVERLAY_STORE_LAYER_IN_USE` for a container that is mounted.
   */
  commit(containerId: string, options: { readonly id: string } & FillOptions): Promise<Layer>;
  /** What a layer changes over its parents: as `changes()`. */
  changes(id: string, options?: ChangeOptions): ChangeStream;
  /** The directories that the layer is mounted from, for `mountOverlay()`, `whichLayer()`, `mergedView()`. */
  stack(id: string): Promise<LayerStack>;
  /** How much a layer takes, measured now. */
  usage(id: string, options?: { readonly shared?: boolean; readonly signal?: AbortSignal }): Promise<Usage>;
  /** The layer below; undefined of a base layer. */
  parent(id: string): Promise<string | undefined>;
  /** The layer itself, then its parents down to the base layer. */
  chain(id: string): Promise<string[]>;
  /**
   * Removes a layer: it is out of the store at once, and then deleted. Never through a mount.
   *
   * @throws OverlayError `ERR_OVERLAY_STORE_LAYER_IN_USE` for a layer that is mounted in any namespace (a container that a
   * store opened with `readonly` shows: in this one), `ERR_OVERLAY_STORE_LAYER_HAS_CHILDREN`.
   */
  remove(id: string): Promise<void>;
  /** Every layer, sorted by id. */
  list(): Promise<Layer[]>;
  /** One layer; undefined if there is none of that id. */
  get(id: string): Promise<Layer | undefined>;
  /** Looks for what is wrong in the store; `repair` mends what can be mended without losing anything. */
  check(options?: { readonly repair?: boolean }): Promise<StoreFinding[]>;
  /** Removes what killed processes have left. Every complete layer stays. */
  gc(options?: { readonly dryRun?: boolean }): Promise<Garbage[]>;
  /** Waits for what is under way, and lets go of the root directory. What is mounted stays. */
  close(): Promise<void>;
}
