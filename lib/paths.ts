/**
 * Paths are bytes: what a caller writes, what the kernel gets, and what a message shows.
 * @module
 */
import { readlinkSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { inspect } from 'node:util';
import { invalidArgument, overlayError } from './errors.ts';
import type { DirRef, PathLike } from './types.ts';

const SLASH = 0x2f;

/** The bytes of a path as the caller wrote it. `name` is the argument's own name, for the error. */
export function pathBytes(path: PathLike, name: string): Buffer {
  const bytes = rawBytes(path, name);
  if (bytes.includes(0)) throw invalidArgument(name, path, 'must not contain a NUL byte');
  if (bytes.length === 0) {
    throw overlayError(
      'ERR_OVERLAY_EMPTY_PATH',
      `${name} is empty`,
      'Name a directory, or leave the option out',
    );
  }
  return bytes;
}

/** The bytes of a path made absolute now, so that a later `process.chdir()` changes nothing. */
export function absolutePath(path: PathLike, name: string): Buffer {
  const bytes = pathBytes(path, name);
  if (bytes[0] === SLASH) return bytes;
  const cwd = currentDirectory();
  if (bytes.equals(Buffer.from('.'))) return cwd;
  const relative = bytes.subarray(bytes.indexOf('./') === 0 ? 2 : 0);
  return Buffer.concat([cwd, Buffer.from(cwd.at(-1) === SLASH ? '' : '/'), relative]);
}

/** A layer for the native side: absolute bytes, or a descriptor's number. */
export function directoryRef(ref: DirRef, name: string): Buffer | number {
  if (!isDescriptor(ref)) return absolutePath(ref, name);
  const { fd } = ref;
  if (!Number.isInteger(fd) || fd < 0 || fd > 0x7fffffff) {
    throw invalidArgument(`${name}.fd`, fd, 'must be an open file descriptor');
  }
  return fd;
}

/**
 * A path below `root`, joined by names alone: `.` and empty names are dropped, and `..` that would leave the root throws.
 */
export function joinInside(root: Buffer, segments: readonly PathLike[]): Buffer {
  const names: string[] = [];
  for (const name of segments.flatMap((segment) =>
    pathBytes(segment, 'path').toString('latin1').split('/'),
  )) {
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
  if (names.length === 0) return Buffer.from(root);
  const prefix = root.at(-1) === SLASH ? root.subarray(0, -1) : root;
  return Buffer.concat([prefix, Buffer.from(names.map((name) => `/${name}`).join(''), 'latin1')]);
}

/** A path for people: UTF-8 as it is; of others what is no ASCII, and backslashes, as `\xNN`. */
export function showPath(bytes: Uint8Array): string {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const text = buffer.toString();
  if (Buffer.from(text).equals(buffer)) return text;
  return buffer
    .toString('latin1')
    .replace(/[\\\x80-\xff]/g, (byte) => `\\x${byte.charCodeAt(0).toString(16)}`);
}

/** What a layer is called in messages. */
export function showRef(ref: Uint8Array | number): string {
  return typeof ref === 'number' ? `fd ${ref}` : showPath(ref);
}

/** The string that stands for exactly these bytes, if there is one. */
export function exactString(bytes: Buffer): string | undefined {
  const text = bytes.toString();
  return Buffer.from(text).equals(bytes) ? text : undefined;
}

function isDescriptor(ref: DirRef): ref is { readonly fd: number } {
  return typeof ref === 'object' && ref !== null && 'fd' in ref && !(ref instanceof Uint8Array);
}

function rawBytes(path: unknown, name: string): Buffer {
  if (typeof path === 'string') return Buffer.from(path);
  if (path instanceof Uint8Array) return Buffer.from(path);
  if (path instanceof URL) {
    if (path.protocol !== 'file:') throw invalidArgument(name, path.href, 'must be a file: URL');
    return Buffer.from(fileURLToPath(path));
  }
  throw invalidArgument(
    name,
    path,
    `must be a path (string, Uint8Array or file: URL), not ${inspect(path, { depth: 0 })}`,
  );
}

// process.cwd() replaces bytes that are not UTF-8; the kernel's link does not.
function currentDirectory(): Buffer {
  const cwd = process.cwd();
  return cwd.includes('\ufffd') ? readlinkSync('/proc/self/cwd', 'buffer') : Buffer.from(cwd);
}
