/**
 * The packed records that the native side reads a merged directory into: one crossing, however many entries.
 * @module
 */

import { type FileType, typeOf } from '../layer/file-type.ts';
import { showPath } from '../paths.ts';

/** What stat(2) tells of a file in a layer. Times are nanoseconds since 1970. */
export interface MergedStats {
  readonly type: FileType;
  /** Permissions, with the set-id and sticky bits. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** In bytes. */
  readonly size: bigint;
  /** What the layer has allocated, in units of 512 bytes; nothing, or little, for a metacopy file. */
  readonly blocks: bigint;
  readonly atimeNs: bigint;
  readonly mtimeNs: bigint;
  readonly ctimeNs: bigint;
  /** Of device nodes: the device that they stand for, as in `node:fs`. */
  readonly rdev: bigint;
  /** The file's own in its layer, as are the next two: a mount makes other numbers of them. */
  readonly ino: bigint;
  readonly dev: bigint;
  readonly nlink: number;
}

/** One name in a merged directory. */
export interface MergedDirent {
  /** For people; `nameBytes` are the bytes. */
  readonly name: string;
  readonly nameBytes: Buffer;
  readonly type: FileType;
  /** Where they were asked for, and the kernel does not refuse the name. */
  readonly stats?: MergedStats;
  /** Where they were asked for: the negative errno that the kernel refuses the name with. */
  readonly errno?: number;
}

const STATUS_SIZE = 16 + 8 * 8;

// DT_* of getdents64(2).
const types: Readonly<Record<number, FileType>> = {
  1: 'fifo',
  2: 'character',
  4: 'directory',
  6: 'block',
  8: 'file',
  10: 'symlink',
  12: 'socket',
};

/** The entries of a directory. */
export function* readDirents(packed: Buffer, withStats: boolean): Generator<MergedDirent> {
  for (let at = 0; at < packed.length; ) {
    const type = types[packed.readUInt8(at)] ?? 'file';
    const errno = packed.readInt32LE(at + 1);
    const end = at + 7 + packed.readUInt16LE(at + 5);
    const nameBytes = packed.subarray(at + 7, end);
    at = withStats ? end + STATUS_SIZE : end;
    yield {
      name: showPath(nameBytes),
      nameBytes,
      type,
      ...(withStats && (errno === 0 ? { stats: readStats(packed, end) } : { errno })),
    };
  }
}

/** What a file's status has been packed into. */
export function readStats(packed: Buffer, at = 0): MergedStats {
  const wide = (index: number) => packed.readBigUInt64LE(at + 16 + 8 * index);
  const time = (index: number) => packed.readBigInt64LE(at + 16 + 8 * index);
  const mode = packed.readUInt32LE(at);
  return {
    type: typeOf(mode),
    mode: mode & 0o7777,
    nlink: packed.readUInt32LE(at + 4),
    uid: packed.readUInt32LE(at + 8),
    gid: packed.readUInt32LE(at + 12),
    dev: wide(0),
    rdev: wide(1),
    ino: wide(2),
    size: wide(3),
    blocks: wide(4),
    atimeNs: time(5),
    mtimeNs: time(6),
    ctimeNs: time(7),
  };
}
