/**
 * How two directories stand to each other: told by device and inode, and by superblock and path within the file system, since
 * a bind mount hides it from `..`.
 * @module
 */
import { binding } from '../addon.ts';
import type { DirectoryFacts, NativeRef } from '../native/binding.ts';

type Known = Extract<DirectoryFacts, { error?: undefined }>;

/** How the first is to the second; undefined: neither is the other, or in it, as far as is known. */
export function relation(
  target: DirectoryFacts | undefined,
  layer: DirectoryFacts,
): 'is' | 'holds' | 'lies in' | undefined {
  if (!isKnown(target) || !isKnown(layer)) return undefined;
  if (target.device === layer.device && target.inode === layer.inode) return 'is';
  const [outer, inner] = [placeOf(target), placeOf(layer)];
  if (outer === undefined || inner === undefined || outer.device !== inner.device) return undefined;
  if (outer.path === inner.path) return 'is';
  if (inner.path.startsWith(below(outer.path))) return 'holds';
  return outer.path.startsWith(below(inner.path)) ? 'lies in' : undefined;
}

/** Whether it could be looked at. */
export const isKnown = (facts: DirectoryFacts | undefined): facts is Known =>
  facts !== undefined && facts.error === undefined;

/** Whether it is the root of its file system. */
export const isWholeFileSystem = (facts: DirectoryFacts): boolean =>
  isKnown(facts) && placeOf(facts)?.path === '/';

/** Whether both are one directory, whatever leads there. */
export const isSame = (one: DirectoryFacts | undefined, other: DirectoryFacts | undefined): boolean =>
  isKnown(one) && isKnown(other) && one.device === other.device && one.inode === other.inode;

const below = (path: string): string => (path.endsWith('/') ? path : `${path}/`);

// Within the file system, whatever is bound where: the bytes as latin1.
function placeOf({ mount, canonicalPath }: Known): { device: bigint; path: string } | undefined {
  if (mount === undefined) return undefined;
  const [root, point, path] = [mount.root, mount.point, canonicalPath].map((one) => one.toString('latin1'));
  const rest = path === point ? '' : path?.slice(below(point ?? '').length);
  return { device: mount.device, path: rest === '' ? (root ?? '') : `${below(root ?? '')}${rest}` };
}

/** Whether a directory is another one or lies in it, told in the same way. */
export async function liesIn(inner: NativeRef, outer: NativeRef): Promise<boolean> {
  const [one, other] = await binding().directoryFacts([inner, outer]);
  return other !== undefined && ['is', 'lies in'].includes(relation(one, other) ?? '');
}
