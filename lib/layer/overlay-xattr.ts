/**
 * One attribute of overlayfs as typed data, and as the bytes that stand on disk. Which bytes are sound is the native
 * decoder's word alone (native/core/overlay_xattr.cc); here sound bytes are cut into fields, and put together.
 * @module
 */
import { binding } from '../addon.ts';
import { boolean, checked, integer, oneOf, record, string } from '../arguments.ts';
import { invalidArgument } from '../errors.ts';
import { showPath } from '../paths.ts';
import type { Finding } from '../types.ts';

/** A file handle, as name_to_handle_at(2) gives it and overlayfs keeps it. */
export interface OverlayHandle {
  /** `OVL_FH_FLAG_*`: 1 written by a big-endian machine, 2 the same for any, 4 of a file in an upper. */
  readonly flags: number;
  /** The file system's own type of handle. */
  readonly type: number;
  /** The file system's uuid, 16 bytes; zeros where it has none, or with `uuid=off`. */
  readonly uuid: Buffer;
  /** What open_by_handle_at(2) takes. */
  readonly bytes: Buffer;
}

/** The fs-verity digest of the data that a metacopy file stands for. */
export interface MetacopyDigest {
  readonly flags: number;
  /** `FS_VERITY_HASH_ALG_*`: 1 SHA-256, 2 SHA-512; 0 with no digest. */
  readonly algorithm: number;
  readonly digest: Buffer;
}

/**
 * What an attribute says, by its `kind`, the name behind `overlay.`:
 *
 * - `opaque`: `y`, nothing below a directory shows; `x`, it merges, and holds whiteouts that are files (lower layers).
 * - `whiteout`: an empty regular file is a whiteout; what the value holds does not matter.
 * - `redirect`: where a directory, or the data of a metacopy file, is in the layers below: a name beside it, or a path from
 *   the root of the overlay (`absolute`).
 * - `metacopy`: a file whose data is below; without `header` the value is empty.
 * - `origin`, `upper`: the file that it was copied up from, of an index entry the upper directory; without `handle` it is not
 *   known.
 * - `nlink`: the number of links of an indexed file, relative to that of the inode in the upper or lower layer.
 * - `impure`: a directory that holds entries with an origin.
 * - `uuid`: of the overlay, 16 bytes.
 * - `protattr`: inode flags that the overlay shows, and its upper has not.
 */
export type OverlayXattrValue =
  | { readonly kind: 'opaque'; readonly mark: 'y' | 'x' }
  | { readonly kind: 'whiteout'; readonly value?: Uint8Array }
  | { readonly kind: 'redirect'; readonly path: Buffer; readonly absolute: boolean }
  | { readonly kind: 'metacopy'; readonly header?: MetacopyDigest }
  | { readonly kind: 'origin'; readonly handle?: OverlayHandle }
  | { readonly kind: 'upper'; readonly handle?: OverlayHandle }
  | { readonly kind: 'nlink'; readonly of: 'upper' | 'lower'; readonly difference: number }
  | { readonly kind: 'impure' }
  | { readonly kind: 'uuid'; readonly uuid: Buffer }
  | { readonly kind: 'protattr'; readonly append: boolean; readonly immutable: boolean };

/**
 * An attribute as it was found. `escaped`: `overlay.overlay.…`, which the overlay shows as `overlay.…` (Linux 6.7), as of
 * a layer that was made in another overlay. `unknown`: a name that no kernel known here uses. `malformed`: the bytes, and what
 * is wrong with them.
 */
export type OverlayXattr = {
  /** The whole name, `trusted.overlay.…` or `user.overlay.…`; for people where it is not UTF-8. */
  readonly name: string;
  /** The bytes on disk. */
  readonly value: Buffer;
} & (
  | OverlayXattrValue
  | { readonly kind: 'escaped'; readonly shownAs: string }
  | { readonly kind: 'unknown' }
  | { readonly kind: 'malformed'; readonly finding: Finding }
);

/** Which of the two namespaces: `user.overlay.*` (true) or `trusted.overlay.*`. */
export interface OverlayXattrNamespace {
  readonly userxattr?: boolean;
}

/** An attribute as setxattr(2) takes it. */
export interface EncodedXattr {
  readonly name: string;
  readonly value: Buffer;
}

/**
 * The bytes of an attribute. What has been decoded, and was not malformed, is encoded to the same bytes.
 *
 * @throws TypeError `ERR_INVALID_ARG_VALUE` for what the kernel could not read, such as a relative redirect with a slash.
 *
 * @example
 * ```ts
 * import { encodeOverlayXattr } from 'overlayfs';
 *
 * const { name, value } = encodeOverlayXattr({ kind: 'redirect', path: Buffer.from('/usr/lib'), absolute: true });
 * console.log(name, value.toString()); // trusted.overlay.redirect /usr/lib
 * ```
 */
export function encodeOverlayXattr(
  xattr: OverlayXattrValue,
  options: OverlayXattrNamespace = {},
): EncodedXattr {
  const { userxattr = false } = checked<OverlayXattrNamespace>(options, { userxattr: boolean });
  const value = encodeValue(xattr);
  const { kind } = xattr;
  const [decoded] = unpackXattrs(
    binding().decodeOverlayXattr(Buffer.from(kind), value),
    prefixOf(userxattr),
    1,
  );
  if (decoded?.[0]?.kind !== kind)
    throw invalidArgument('xattr', xattr, 'is nothing that the kernel could read');
  return { name: `${prefixOf(userxattr)}${kind}`, value };
}

/**
 * What an attribute says: of a name and a value that come from somewhere else, such as an archive. Undefined: it is none of
 * overlayfs's.
 *
 * @example
 * ```ts
 * import { decodeOverlayXattr } from 'overlayfs';
 *
 * const xattr = decodeOverlayXattr('trusted.overlay.redirect', Buffer.from('old-name'));
 * if (xattr?.kind === 'redirect') console.log(xattr.path.toString(), xattr.absolute); // old-name false
 * ```
 */
export function decodeOverlayXattr(name: string, value: Uint8Array): OverlayXattr | undefined {
  string(name, 'name');
  if (!(value instanceof Uint8Array)) throw invalidArgument('value', value, 'must be bytes');
  const prefix = (['trusted.overlay.', 'user.overlay.'] as const).find((start) => name.startsWith(start));
  if (prefix === undefined) return undefined;
  const packed = binding().decodeOverlayXattr(Buffer.from(name.slice(prefix.length)), Buffer.from(value));
  return unpackXattrs(packed, prefix, 1)[0]?.[0];
}

/**
 * The name under which a layer keeps an attribute that an overlay shows as `name`: `overlay.` becomes `overlay.overlay.`. Other
 * names are given back as they are.
 *
 * @example
 * ```ts
 * import { escapeOverlayXattr } from 'overlayfs';
 *
 * console.log(escapeOverlayXattr('trusted.overlay.opaque')); // trusted.overlay.overlay.opaque
 * ```
 */
export function escapeOverlayXattr(name: string): string {
  string(name, 'name');
  return name.replace(/^(trusted|user)\.overlay\./, '$1.overlay.overlay.');
}

/**
 * The name that an overlay shows for an attribute of a layer; one that is not escaped is given back as it is.
 *
 * @example
 * ```ts
 * import { unescapeOverlayXattr } from 'overlayfs';
 *
 * console.log(unescapeOverlayXattr('user.overlay.overlay.opaque')); // user.overlay.opaque
 * ```
 */
export function unescapeOverlayXattr(name: string): string {
  string(name, 'name');
  return name.replace(/^(trusted|user)\.overlay\.overlay\./, '$1.overlay.');
}

/**
 * The file handle that an entry of `work/index` is named by; undefined: the kernel would not take it for one.
 *
 * @example
 * ```ts
 * import { readdirSync } from 'node:fs';
 * import { decodeIndexName } from 'overlayfs';
 *
 * for (const name of readdirSync('/srv/work/index')) console.log(decodeIndexName(name)?.bytes);
 * ```
 */
export function decodeIndexName(name: string): OverlayHandle | undefined {
  string(name, 'name');
  if (!/^(?:[0-9a-f]{2})+$/.test(name)) return undefined;
  const origin = decodeOverlayXattr('trusted.overlay.origin', Buffer.from(name, 'hex'));
  return origin?.kind === 'origin' ? origin.handle : undefined;
}

/**
 * The name of the entry of `work/index` for a file: its whole handle, in hexadecimal.
 *
 * @example
 * ```ts
 * import { encodeIndexName, readOverlayXattrs } from 'overlayfs';
 *
 * for (const xattr of await readOverlayXattrs('/srv/upper/etc/hosts')) {
 *   if (xattr.kind === 'origin' && xattr.handle) console.log(encodeIndexName(xattr.handle));
 * }
 * ```
 */
export function encodeIndexName(handle: OverlayHandle): string {
  return encodeOverlayXattr({ kind: 'origin', handle }).value.toString('hex');
}

/** What an overlay attribute's name begins with. */
export const prefixOf = (userxattr: boolean): 'user.overlay.' | 'trusted.overlay.' =>
  userxattr ? 'user.overlay.' : 'trusted.overlay.';

const kinds = [
  'opaque',
  'whiteout',
  'redirect',
  'metacopy',
  'handle',
  'handle',
  'nlink',
  'impure',
  'uuid',
  'protattr',
  'escaped',
  'unknown',
  'malformed',
] as const;
type Kind = (typeof kinds)[number] | undefined;

const head = 12;
const nothing = Buffer.alloc(0);

/** What `native/core/layer_xattr.cc` has packed, for each of so many paths. */
export function unpackXattrs(packed: Buffer, prefix: string, paths: number): OverlayXattr[][] {
  const found = Array.from({ length: paths }, (): OverlayXattr[] => []);
  for (let at = 0; at < packed.length; ) {
    const kind = kinds[packed[at + 4] as number];
    const name = at + head;
    const value = name + packed.readUInt16LE(at + 6);
    const why = value + packed.readUInt32LE(at + 8);
    const next = why + (packed[at + 5] as number);
    const bytes = packed.subarray(value, why);
    const xattr =
      fieldsOf(kind, value - name, prefix, bytes) ??
      withoutFields(
        kind,
        `${prefix}${packed.toString('latin1', name, value)}`,
        prefix,
        bytes,
        packed.toString('latin1', why, next),
      );
    found[packed.readUInt32LE(at)]?.push(xattr);
    at = next;
  }
  return found;
}

// Undefined: it has none, and its name is not one of ours alone. Names are made of the kind, which costs less than reading
// them.
function fieldsOf(kind: Kind, nameLength: number, prefix: string, value: Buffer): OverlayXattr | undefined {
  switch (kind) {
    case 'opaque':
      return { kind, name: `${prefix}opaque`, value, mark: value[0] === 0x79 ? 'y' : 'x' };
    case 'redirect':
      return { kind, name: `${prefix}redirect`, value, path: value, absolute: value[0] === 0x2f };
    case 'metacopy': {
      const name = `${prefix}metacopy`;
      if (value.length === 0) return { kind, name, value };
      const [, , flags = 0, algorithm = 0] = value;
      return { kind, name, value, header: { flags, algorithm, digest: value.subarray(4) } };
    }
    case 'handle': {
      const role = nameLength === 'origin'.length ? 'origin' : 'upper';
      const name = `${prefix}${role}`;
      if (value.length === 0) return { kind: role, name, value };
      const flags = value[3] as number;
      const type = value[4] as number;
      const handle = { flags, type, uuid: value.subarray(5, 21), bytes: value.subarray(21) };
      return { kind: role, name, value, handle };
    }
    case 'nlink': {
      const of = value[0] === 0x55 ? 'upper' : 'lower';
      return { kind, name: `${prefix}nlink`, value, of, difference: Number(value.toString('latin1', 1)) };
    }
    case 'uuid':
      return { kind, name: `${prefix}uuid`, value, uuid: value };
    case 'protattr': {
      const [append, immutable] = [value[0] === 0x61, value.at(-1) === 0x69];
      return { kind, name: `${prefix}protattr`, value, append, immutable };
    }
    case 'whiteout':
    case 'impure':
      return { kind, name: `${prefix}${kind}`, value };
    default:
      return undefined;
  }
}

function withoutFields(kind: Kind, latin1: string, prefix: string, value: Buffer, why: string): OverlayXattr {
  const name = showPath(Buffer.from(latin1, 'latin1'));
  if (kind === 'malformed') return { kind, name, value, finding: malformed(name, value, why) };
  if (kind !== 'escaped') return { kind: 'unknown', name, value };
  return { kind, name, value, shownAs: prefix + name.slice(prefix.length + 'overlay.'.length) };
}

function malformed(name: string, value: Buffer, why: string): Finding {
  return {
    code: 'WARN_OVERLAY_XATTR_MALFORMED',
    severity: 'warning',
    detail: `${name} ${why}: ${value.length} bytes, ${shownBytes(value)}`,
    fix: 'Find out what wrote it; setfattr(1) sets it right',
  };
}

// As getfattr(1) shows them: text where it is text, else hexadecimal; enough of it to recognise.
function shownBytes(value: Buffer): string {
  const most = 64;
  const text = value.toString('latin1', 0, most);
  const shown = /^[ -~]*$/.test(text) ? JSON.stringify(text) : `0x${value.toString('hex', 0, most)}`;
  return value.length > most ? `${shown}…` : shown;
}

/** The bytes of a value, its fields taken at their word. */
export function encodeValue(xattr: OverlayXattrValue): Buffer {
  record(xattr, 'xattr');
  switch (xattr.kind) {
    case 'opaque':
      return Buffer.from(word(xattr.mark, 'mark', 'y', 'x'));
    case 'whiteout':
      return xattr.value === undefined ? Buffer.from('y') : bytes(xattr.value, 'value');
    case 'impure':
      return Buffer.from('y');
    case 'redirect':
      return bytes(xattr.path, 'path');
    case 'metacopy': {
      if (xattr.header === undefined) return nothing;
      const { flags, algorithm, digest } = xattr.header;
      return Buffer.concat([
        Buffer.of(0, 4 + digest.length, byte(flags, 'flags'), byte(algorithm, 'algorithm')),
        bytes(digest, 'digest'),
      ]);
    }
    case 'origin':
    case 'upper': {
      if (xattr.handle === undefined) return nothing;
      const { flags, type, uuid, bytes: id } = xattr.handle;
      return Buffer.concat([
        Buffer.of(0, 0xfb, 21 + id.length, byte(flags, 'flags'), byte(type, 'type')),
        bytes(uuid, 'uuid'),
        bytes(id, 'bytes'),
      ]);
    }
    case 'nlink': {
      const { of, difference } = xattr;
      return Buffer.from(
        `${word(of, 'of', 'upper', 'lower') === 'upper' ? 'U' : 'L'}${difference < 0 ? '' : '+'}${difference}`,
      );
    }
    case 'uuid':
      return bytes(xattr.uuid, 'uuid');
    case 'protattr':
      return Buffer.from(`${xattr.append ? 'a' : ''}${xattr.immutable ? 'i' : ''}`);
    default:
      throw invalidArgument('xattr', xattr, 'must be of a kind that overlayfs writes');
  }
}

function word<Word extends string>(value: Word, name: string, ...words: Word[]): Word {
  oneOf(...words)(value, `xattr.${name}`);
  return value;
}

function byte(value: number, name: string): number {
  integer(0, 255)(value, `xattr.${name}`);
  return value;
}

function bytes(value: unknown, name: string): Buffer {
  if (!(value instanceof Uint8Array)) throw invalidArgument(`xattr.${name}`, value, 'must be bytes');
  return Buffer.from(value.buffer, value.byteOffset, value.byteLength);
}
