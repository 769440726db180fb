/**
 * The facts of a plan's layers, and how the layers lie to one another on disk.
 * @module
 */
import { lstatSync } from 'node:fs';
import { binding } from '../addon.ts';
import type { DirectoryFacts, NativePlan, NativeRef } from '../native/binding.ts';
import { explained } from '../native-errors.ts';
import { showRef } from '../paths.ts';

/** What a layer is for. */
export type LayerRole = 'lower' | 'dataOnlyLower' | 'upper' | 'work';

/** One layer that the caller named. */
export interface Layer {
  readonly role: LayerRole;
  readonly index: number;
  /** What to call it in a message: `lower[2]`, `upper`. */
  readonly label: string;
  readonly shown: string;
  readonly isSymbolicLink: boolean;
  readonly facts: DirectoryFacts;
}

/** Looks at every layer, in one call. */
export async function layerFacts(plan: NativePlan): Promise<Layer[]> {
  const named: { role: Layer['role']; index: number; ref: NativeRef }[] = [
    ...plan.lower.map((ref, index) => ({ role: 'lower' as const, index, ref })),
    ...plan.dataOnlyLower.map((ref, index) => ({ role: 'dataOnlyLower' as const, index, ref })),
    ...(plan.upper === undefined ? [] : [{ role: 'upper' as const, index: 0, ref: plan.upper }]),
    // Without an upper the kernel ignores a work directory, whatever it is.
    ...(plan.upper === undefined || plan.work === undefined
      ? []
      : [{ role: 'work' as const, index: 0, ref: plan.work }]),
  ];
  const facts = await explained(binding().directoryFacts(named.map(({ ref }) => ref)), 'the layers');
  return named.flatMap(({ role, index, ref }, i) => {
    const one = facts[i];
    if (one === undefined) return [];
    const several = role === 'dataOnlyLower' || (role === 'lower' && plan.lower.length > 1);
    return {
      role,
      index,
      label: several ? `${role}[${index}]` : role,
      shown: showRef(ref),
      isSymbolicLink: one.error !== undefined && isSymbolicLink(ref),
      facts: one,
    };
  });
}

/** Every pair of layers that are one directory, whatever name or bind mount leads there. */
export function sameDirectoryPairs(layers: readonly Layer[]): [Layer, Layer][] {
  const first = new Map<string, Layer>();
  const pairs: [Layer, Layer][] = [];
  for (const layer of layers) {
    if (layer.facts.error !== undefined) continue;
    const key = `${layer.facts.device}:${layer.facts.inode}`;
    const earlier = first.get(key);
    if (earlier === undefined) first.set(key, layer);
    else pairs.push([earlier, layer]);
  }
  return pairs;
}

/**
 * Every pair of an inner layer that lies inside an outer one, compared by superblock and path within the file system: a
 * bind mount hides it from the paths that a user sees. Layers on mounts outside this namespace are left out.
 */
export function containedPairs(inner: readonly Layer[], outer: readonly Layer[]): [Layer, Layer][] {
  const places = new Map<string, Layer>();
  for (const layer of outer) {
    const place = placeOf(layer);
    if (place !== undefined) places.set(`${place.device}:${place.path}`, layer);
  }
  return inner.flatMap((layer): [Layer, Layer][] => {
    const place = placeOf(layer);
    if (place === undefined) return [];
    for (let path = place.path; path !== '/'; ) {
      path = path.slice(0, path.lastIndexOf('/')) || '/';
      const found = places.get(`${place.device}:${path}`);
      if (found !== undefined) return [[layer, found]];
    }
    return [];
  });
}

function placeOf({ facts }: Layer): { device: bigint; path: string } | undefined {
  if (facts.error !== undefined || facts.mount === undefined) return undefined;
  const point = trimRoot(facts.mount.point.toString('latin1'));
  const canonical = facts.canonicalPath.toString('latin1');
  if (!canonical.startsWith(point)) return undefined;
  const path = trimRoot(facts.mount.root.toString('latin1')) + canonical.slice(point.length);
  return { device: facts.mount.device, path: path === '' || path === '//' ? '/' : path };
}

/** Whether `path` lies below `directory`, by name alone. */
export function inside(directory: Buffer, path: Buffer): boolean {
  const prefix = directory.at(-1) === 0x2f ? directory : Buffer.concat([directory, Buffer.from('/')]);
  return path.length > prefix.length && path.subarray(0, prefix.length).equals(prefix);
}

const trimRoot = (path: string) => (path === '/' ? '' : path);

/** Whether the path itself is a symbolic link, wherever it leads. */
export function isSymbolicLink(ref: NativeRef): boolean {
  if (typeof ref === 'number') return false;
  try {
    return lstatSync(ref).isSymbolicLink();
  } catch {
    return false;
  }
}
