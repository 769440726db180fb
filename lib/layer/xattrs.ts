/**
 * The attributes that overlayfs keeps in layers: read, written and stripped, many files in one call.
 * @module
 */
import { basename, dirname } from 'node:path/posix';
import { binding } from '../addon.ts';
import { boolean } from '../arguments.ts';
import { invalidArgument } from '../errors.ts';
import type { NativeRef } from '../native/binding.ts';
import { absolutePath, directoryRef } from '../paths.ts';
import type { DirRef, PathLike } from '../types.ts';
import {
  checkOptions,
  type LayerOptions,
  type PackedPaths,
  packPathOrPaths,
  packPaths,
  runBatch,
  xattrPrefix,
} from './batch.ts';
import { encodeValue, type OverlayXattr, type OverlayXattrValue, unpackXattrs } from './overlay-xattr.ts';

const done = ['done'] as const;

/**
 * The overlay's attributes of a file or directory, decoded; a symbolic link is looked at itself. Those that the kernel could
 * not read are of kind `malformed`, with a finding that shows the bytes.
 *
 * With `path` the first argument is a layer, and neither a symbolic link nor a mount in it leads out.
 *
 * @throws OverlayError `ERR_OVERLAY_XATTR_HIDDEN` without privilege for `trusted.overlay.*`; `ERR_OVERLAY_PATH_ESCAPES`; an error
 * of `node:fs`'s shape, such as `ENOENT`, with the `outcomes` so far.
 * @see https://docs.kernel.org/filesystems/overlayfs.html
 *
 * @example
 * ```ts
 * import { readOverlayXattrs } from 'overlayfs';
 *
 * for (const xattr of await readOverlayXattrs('/srv/upper/usr')) {
 *   if (xattr.kind === 'redirect') console.log('was', xattr.path.toString());
 *   if (xattr.kind === 'malformed') console.log(xattr.finding.detail);
 * }
 * const [hosts, motd] = await readOverlayXattrs('/srv/upper', ['etc/hosts', 'etc/motd']);
 * ```
 */
export function readOverlayXattrs(path: DirRef): Promise<readonly OverlayXattr[]>;
/** Of a path in a layer. */
export function readOverlayXattrs(
  layer: DirRef,
  path: PathLike,
  options?: LayerOptions,
): Promise<readonly OverlayXattr[]>;
/** Of many paths in a layer, in their order, in one call. */
export function readOverlayXattrs(
  layer: DirRef,
  paths: readonly PathLike[],
  options?: LayerOptions,
): Promise<readonly (readonly OverlayXattr[])[]>;
export async function readOverlayXattrs(
  layer: DirRef,
  paths?: PathLike | readonly PathLike[],
  options: LayerOptions = {},
): Promise<readonly OverlayXattr[] | readonly (readonly OverlayXattr[])[]> {
  const { userxattr, signal } = checkOptions(options, {});
  const { ref, packed } = located(layer, paths);
  const prefix = await xattrPrefix(userxattr);
  const { batch } = await runBatch(packed, done, signal, (cancel) =>
    binding().readOverlayXattrs(ref, packed.packed, prefix, cancel),
  );
  const found = unpackXattrs(batch.packed, prefix, packed.count);
  return Array.isArray(paths) ? found : (found[0] as readonly OverlayXattr[]);
}

/** An attribute to set on a path of a layer. */
export interface OverlayXattrEntry {
  readonly path: PathLike;
  readonly xattr: OverlayXattrValue;
}

/**
 * Sets attributes on files and directories of a layer, in one call; what is not named stays. Nothing is durable before a sync.
 *
 * @throws TypeError `ERR_INVALID_ARG_VALUE` when the kernel could not read one of them: then none is written. OverlayError
 * `ERR_OVERLAY_LAYER_WITHOUT_XATTRS`, `ERR_OVERLAY_XATTR_HIDDEN`, `ERR_OVERLAY_PATH_ESCAPES`; an error of `node:fs`'s shape. The
 * first path that fails ends it, and the error carries the `outcomes` so far.
 *
 * @example
 * ```ts
 * import { writeOverlayXattrs } from 'overlayfs';
 *
 * await writeOverlayXattrs('/srv/layer', [
 *   { path: 'etc', xattr: { kind: 'opaque', mark: 'y' } },
 *   { path: 'usr', xattr: { kind: 'redirect', path: Buffer.from('old-usr'), absolute: false } },
 * ]);
 * ```
 */
export async function writeOverlayXattrs(
  layer: DirRef,
  entries: readonly OverlayXattrEntry[],
  options: LayerOptions = {},
): Promise<void> {
  const { userxattr, signal } = checkOptions(options, {});
  if (!Array.isArray(entries)) throw invalidArgument('entries', entries, 'must be an array');
  const ref = directoryRef(layer, 'layer');
  const packed = packPaths(
    Array.from(entries, (entry: OverlayXattrEntry) => entry.path),
    'entries.path',
  );
  const names = Buffer.from(entries.map(({ xattr }) => `${xattr.kind}\0`).join(''));
  const values = packValues(entries.map(({ xattr }) => encodeValue(xattr)));
  const prefix = await xattrPrefix(userxattr);
  await runBatch(packed, done, signal, (cancel) =>
    binding().writeOverlayXattrs(ref, packed.packed, names, values, prefix, cancel),
  );
}

/** How {@link stripOverlayXattrs} goes about it. */
export interface StripOptions extends LayerOptions {
  /** Goes through directories; not over what is mounted in them. Default false. */
  readonly recursive?: boolean;
  /**
   * Gives escaped attributes (`overlay.overlay.…`) the names that an overlay shows them by. Not to be done twice: the second
   * time they would be stripped. Default false: they stay as they are.
   */
  readonly unescape?: boolean;
}

/** How many attributes are gone, and how many have another name. */
export interface StripResult {
  readonly removed: number;
  readonly unescaped: number;
}

/**
 * Removes the overlay's own attributes, for files that leave their layer and are plain files from then on. What they said is
 * lost: a redirected directory is where its name says, a metacopy file is empty of data.
 *
 * @param paths - Paths in the layer; `/` is the layer itself.
 * @throws As {@link writeOverlayXattrs}.
 *
 * @example
 * ```ts
 * import { stripOverlayXattrs } from 'overlayfs';
 *
 * const { removed } = await stripOverlayXattrs('/srv/exported', ['/'], { recursive: true, unescape: true });
 * ```
 */
export async function stripOverlayXattrs(
  layer: DirRef,
  paths: PathLike | readonly PathLike[],
  options: StripOptions = {},
): Promise<StripResult> {
  const {
    userxattr,
    signal,
    recursive = false,
    unescape: unescaping = false,
  } = checkOptions<StripOptions>(options, {
    recursive: boolean,
    unescape: boolean,
  });
  const ref = directoryRef(layer, 'layer');
  const packed = packPathOrPaths(paths);
  const prefix = await xattrPrefix(userxattr);
  const { batch } = await runBatch(packed, done, signal, (cancel) =>
    binding().stripOverlayXattrs(ref, packed.packed, prefix, unescaping, recursive, cancel),
  );
  return { removed: batch.removed, unescaped: batch.unescaped };
}

// One path alone is a name in its directory: it need not be a directory, and is not followed.
function located(
  layer: DirRef,
  paths: PathLike | readonly PathLike[] | undefined,
): { ref: NativeRef; packed: PackedPaths } {
  if (paths !== undefined) {
    return { ref: directoryRef(layer, 'layer'), packed: packPathOrPaths(paths) };
  }
  const ref = directoryRef(layer, 'path');
  if (typeof ref === 'number') return { ref, packed: packPaths(['/'], 'path') };
  const whole = absolutePath(layer as PathLike, 'path').toString('latin1');
  const name = basename(whole);
  const inside = name === '.' || name === '..' ? '' : name;
  return {
    ref: Buffer.from(inside === '' ? whole : dirname(whole), 'latin1'),
    packed: packPaths([Buffer.from(inside || '/', 'latin1')], 'path'),
  };
}

function packValues(values: readonly Buffer[]): Buffer {
  const packed = Buffer.allocUnsafe(values.reduce((size, { length }) => size + 4 + length, 0));
  let at = 0;
  for (const value of values) {
    at = packed.writeUInt32LE(value.length, at);
    at += value.copy(packed, at);
  }
  return packed;
}
