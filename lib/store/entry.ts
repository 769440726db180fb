/**
 * What stands at a path of a store, as the native side packs it (native/core/store_read.h).
 * @module
 */

/** What stands at one path. Nothing is followed. */
export interface Entry {
  readonly type: 'missing' | 'file' | 'directory' | 'link' | 'other' | 'unreadable';
  /** Permission bits. */
  readonly mode: number;
  /** Negative; 0 where it could be read. */
  readonly errno: number;
  readonly owner: number;
  /** A file's content, a symbolic link's target. */
  readonly bytes: Buffer;
}

const types: readonly Entry['type'][] = ['missing', 'file', 'directory', 'link', 'other', 'unreadable'];
const headerSize = 1 + 2 + 4 + 4 + 4;
const nothing = Buffer.alloc(0);
// Most of what is asked for is not there.
const missing: Entry = { type: 'missing', mode: 0, errno: 0, owner: 0, bytes: nothing };

/** Unpacks as many entries as were asked for. */
export function decodeEntries(packed: Buffer): Entry[] {
  const entries: Entry[] = [];
  for (let at = 0; at < packed.length; ) {
    const type = types[packed[at] ?? 0] ?? 'unreadable';
    const length = packed.readUInt32LE(at + 11);
    const start = at + headerSize;
    entries.push(
      type === 'missing'
        ? missing
        : {
            type,
            mode: packed.readUInt16LE(at + 1),
            errno: -packed.readUInt32LE(at + 3),
            owner: packed.readUInt32LE(at + 7),
            bytes: length === 0 ? nothing : packed.subarray(start, start + length),
          },
    );
    at = start + length;
  }
  return entries;
}

/** A name in a directory. */
export interface Name {
  /** The exact bytes as UTF-8; undefined where there is no such string. */
  readonly text: string | undefined;
  readonly bytes: Buffer;
  /** `d_type` of readdir(3). */
  readonly type: number;
}

/** DT_DIR and DT_UNKNOWN of readdir(3). */
export const directoryTypes: readonly number[] = [4, 0];

/** Unpacks the names in as many directories as were asked for. */
export function decodeNames(packed: Buffer): Name[][] {
  const directories: Name[][] = [];
  for (let at = 0; at < packed.length; ) {
    const start = at + 4;
    at = start + packed.readUInt32LE(at);
    directories.push(decodeDirectory(packed.subarray(start, at)));
  }
  return directories;
}

function decodeDirectory(packed: Buffer): Name[] {
  const names: Name[] = [];
  for (let at = 0; at < packed.length; ) {
    const end = packed.indexOf(0, at + 1);
    const bytes = packed.subarray(at + 1, end);
    const text = bytes.toString();
    names.push({
      text: Buffer.byteLength(text) === bytes.length && !text.includes('\ufffd') ? text : undefined,
      bytes,
      type: packed[at] ?? 0,
    });
    at = end + 1;
  }
  return names;
}
