/**
 * One change: what an entry of the merged view is, beside what it was in the lowers alone.
 * @module
 */
import type { FileHandle } from 'node:fs/promises';
import type { FileType } from '../layer/file-type.ts';
import type { LayerPlace } from '../layer/place.ts';

/**
 * What happened to a path, from the before-view (the lowers) to the after-view (with the upper):
 *
 * - `added`: there was nothing.
 * - `modified`: the same type, another content (or size, symbolic link's target, device number).
 * - `metadata`: the content is the same; mode, owner, times or attributes differ.
 * - `deleted`: there is nothing any more. A directory goes with all that it held.
 * - `replaced`: another type, or a directory that hides the one before: that is gone with all that it held. Or another file
 *   that looks the same as the one that was renamed from here.
 * - `renamed`: it is what stood at `from`, which is gone unless it has an entry of its own. A directory came with all
 *   that it held.
 */
export type ChangeKind = 'added' | 'modified' | 'metadata' | 'deleted' | 'replaced' | 'renamed';

/** What can differ, beside the names of extended attributes (which hold a dot). */
export type ChangeField = 'mode' | 'uid' | 'gid' | 'mtime' | 'size' | 'content' | 'target' | 'rdev';

/**
 * Where the data of an entry lies: of a metacopy file (copied up without its data) in a lower; of a hard link that was
 * changed under another name in the index.
 */
export interface ChangeSource extends Pick<LayerPlace, 'layer' | 'index' | 'path' | 'pathBytes'> {
  /**
   * Opens the data for reading. No symbolic link in the layer leads out of it, and a FIFO does not block.
   *
   * @throws an error of `node:fs`'s own shape; `ERR_OVERLAY_STREAM_CLOSED` once the stream is closed.
   */
  open(): Promise<FileHandle>;
}

/**
 * One entry of a change set. A change set is a relation, not a script: `path` names the after-view, `from` the before-view,
 * and all entries hold at once.
 *
 * The properties are read from the batch when they are asked for: each entry that is kept keeps its batch (about 100 KiB).
 */
export interface Change {
  /** Without a leading slash; the root is `.`. Bytes that are not UTF-8 are shown as `\xNN`: `pathBytes` are the truth. */
  readonly path: string;
  readonly pathBytes: Buffer;
  readonly kind: ChangeKind;
  /** What stands there; of `deleted`, what stood there. */
  readonly type: FileType;
  /** Of `replaced`: what stood there. It is gone, unless another entry was renamed from there. */
  readonly previousType?: FileType | undefined;
  /**
   * Where in the before-view it was: of `renamed`, and of every entry in a directory that was renamed, whose old path is
   * another than its new one.
   */
  readonly from?: string | undefined;
  readonly fromBytes?: Buffer | undefined;
  /**
   * Of `renamed`: what stood at its new place, in a renamed directory at that directory's old one. It is gone, unless
   * another entry was renamed from there: two that were exchanged have each other's.
   */
  readonly replaces?: FileType | undefined;
  /** What differs from the before-view: {@link ChangeField}s and names of extended attributes; empty where nothing was there. */
  readonly fields: readonly string[];
  /** In bytes, of files and symbolic links; else 0. Of `deleted`: 0. */
  readonly size: bigint;
  /** Of what was there before, where that was a file or a symbolic link. */
  readonly previousSize?: bigint | undefined;
  /** In bytes: what the upper has allocated for it. */
  readonly allocatedBytes: bigint;
  /**
   * The same for all names of one inode of the upper; absent where that has a single link. The index holds a link of its
   * own, so with `index` a group may have one name alone.
   */
  readonly linkGroup?: bigint | undefined;
  /** Of everything but `deleted`. */
  readonly source?: ChangeSource | undefined;
}
