/**
 * Whether a directory may be written to: no layer lies in it, it lies in no layer, and no live overlay uses it.
 * @module
 */
import { binding } from '../addon.ts';
import { type OverlayError, overlayError } from '../errors.ts';
import { kernelFeatures } from '../inspect/kernel.ts';
import {
  listOverlays,
  type MountedOverlay,
  overlaysElsewhere,
  parseOverlayOptions,
} from '../inspect/mount-table.ts';
import type { DirectoryFacts, NativeRef } from '../native/binding.ts';
import { showPath, showRef } from '../paths.ts';
import { explainTarget } from './apply-errors.ts';
import type { ChangeOrigin } from './origin.ts';

type Known = Extract<DirectoryFacts, { error?: undefined }>;

/**
 * Throws `ERR_OVERLAY_TARGET_OVERLAPS` for a target that lies in a layer of the stack or holds one; a lower itself may be the
 * target. Containment is told by superblock and path within the file system, since a bind mount hides it from `..`.
 */
export async function refuseOverlap(target: NativeRef, { stack, walk }: ChangeOrigin): Promise<void> {
  const { lower, dataOnlyLower, upper, work } = stack;
  const layers: readonly (readonly [role: string, ref: NativeRef, itself: boolean])[] = [
    ...lower.map((ref) => ['lower', ref, true] as const),
    ...dataOnlyLower.map((ref) => ['data-only lower', ref, false] as const),
    ...(upper === undefined ? [] : [['upper', upper, false] as const]),
    ...(work === undefined ? [] : [['work directory', work, false] as const]),
  ];
  const [[own], facts] = await Promise.all([
    binding().directoryFacts([target]),
    binding().layerFacts(walk()),
  ]);
  for (const [index, one] of facts.entries()) {
    const [role, ref, itself] = layers[index] as (typeof layers)[number];
    const how = relation(own, one);
    if (how === undefined || (how === 'is' && itself)) continue;
    throw overlayError(
      'ERR_OVERLAY_TARGET_OVERLAPS',
      `the target ${showRef(target)} ${how} the ${role} ${nameOf(ref, one)} of the changes`,
      'Name a directory apart from the layers: a copy of the lower, or the lower itself',
      { path: showRef(target) },
    );
  }
}

// The number of a descriptor that has been closed names nothing, or something else.
const nameOf = (ref: NativeRef, facts: DirectoryFacts): string =>
  typeof ref === 'number' && isKnown(facts) ? showPath(facts.canonicalPath) : showRef(ref);

/** Whether a directory is another one or lies in it, told in the same way. */
export async function liesIn(inner: NativeRef, outer: NativeRef): Promise<boolean> {
  const [one, other] = await binding().directoryFacts([inner, outer]);
  return other !== undefined && ['is', 'lies in'].includes(relation(one, other) ?? '');
}

/** Throws `ERR_OVERLAY_TARGET_IN_USE` for a target that a live overlay has as a layer. */
export async function refuseInUse(target: NativeRef): Promise<void> {
  const how = await findUse(target);
  if (how !== undefined) throw inUse(target, how);
}

/**
 * How a live overlay has a directory as a layer; undefined: none does. Of an upper or work directory the
 * kernel itself is asked. Of a lower it keeps no mark: what is looked at is every overlay of this process, detached ones
 * too, and the mount tables of all namespaces that /proc shows. Another process's detached overlay is in none. A layer that
 * is a whole file system is passed over, unless it is the target: everything on it would lie in it.
 */
export async function findUse(target: NativeRef): Promise<string | undefined> {
  const { detachedLayers, initialUserNamespace } = await kernelFeatures();
  if (initialUserNamespace) {
    const { answer } = await binding()
      .directoryInUse(target, detachedLayers)
      .catch((error) => {
        throw explainTarget(error, target);
      });
    if (answer === 'yes') return 'as upper or work directory';
  }
  return findInTables(target);
}

/** Where to look for a layer, and what for. */
export interface TableSearch {
  /** A part of its name: layers that are named otherwise are not opened, and detached overlays not looked at. */
  readonly name?: string;
  /** In this mount namespace alone: what others have takes a look at every process. */
  readonly here?: boolean;
}

/** As far as mount tables tell: the second-best evidence of an upper, and all that there is of a lower. */
export async function findInTables(target: NativeRef, search: TableSearch = {}): Promise<string | undefined> {
  const found = await layersInUse(search);
  if (found.length === 0) return undefined;
  const [own, ...facts] = await binding().directoryFacts([target, ...found.map(({ ref }) => ref)]);
  const index = facts.findIndex((one) => {
    const how = relation(own, one);
    return how === 'lies in' ? !isWholeFileSystem(one) : how !== undefined;
  });
  return found[index]?.by;
}

interface LayerInUse {
  readonly ref: NativeRef;
  readonly by: string;
}

async function layersInUse({ name = '', here: onlyHere = false }: TableSearch): Promise<LayerInUse[]> {
  const [here, elsewhere] = await Promise.all([
    listOverlays(),
    onlyHere ? { overlays: [] } : overlaysElsewhere(),
  ]);
  const own = name === '' ? binding().liveLayers() : [];
  return [
    ...own.map((ref) => ({ ref, by: 'as a layer of an overlay of this process' })),
    ...here.flatMap((overlay) =>
      namedLayers(overlay, name, '', `as a layer of the overlay at ${overlay.target}`),
    ),
    ...elsewhere.overlays
      .filter(({ options }) => options.includes(name))
      .flatMap(({ pid, point, options }) =>
        namedLayers(
          parseOverlayOptions(options),
          name,
          `/proc/${pid}/root`,
          `as a layer of the overlay at ${showPath(point)} in the mount namespace of process ${pid}`,
        ),
      ),
  ];
}

type NamedLayers = Pick<MountedOverlay, 'lower' | 'dataOnlyLower' | 'upper' | 'work'>;

function namedLayers(overlay: NamedLayers, name: string, root: string, by: string): LayerInUse[] {
  const { lower, dataOnlyLower, upper, work } = overlay;
  return [...lower, ...dataOnlyLower, upper, work].flatMap((layer) =>
    layer === undefined || layer.unresolved !== undefined || !layer.pathBytes.includes(name)
      ? []
      : [{ ref: Buffer.concat([Buffer.from(root), layer.pathBytes]), by }],
  );
}

function inUse(target: NativeRef, how: string): OverlayError {
  return overlayError(
    'ERR_OVERLAY_TARGET_IN_USE',
    `the target ${showRef(target)} is in use ${how}; the kernel leaves undefined what happens when a layer changes under it`,
    'Unmount that overlay, or name a copy of the directory',
    { path: showRef(target) },
  );
}

function relation(target: DirectoryFacts | undefined, layer: DirectoryFacts): string | undefined {
  if (!isKnown(target) || !isKnown(layer)) return undefined;
  if (target.device === layer.device && target.inode === layer.inode) return 'is';
  const [outer, inner] = [placeOf(target), placeOf(layer)];
  if (outer === undefined || inner === undefined || outer.device !== inner.device) return undefined;
  if (outer.path === inner.path) return 'is';
  if (inner.path.startsWith(below(outer.path))) return 'holds';
  return outer.path.startsWith(below(inner.path)) ? 'lies in' : undefined;
}

const isKnown = (facts: DirectoryFacts | undefined): facts is Known =>
  facts !== undefined && facts.error === undefined;

const isWholeFileSystem = (facts: DirectoryFacts): boolean => isKnown(facts) && placeOf(facts)?.path === '/';

const below = (path: string): string => (path.endsWith('/') ? path : `${path}/`);

// Within the file system, whatever is bound where: the bytes as latin1.
function placeOf({ mount, canonicalPath }: Known): { device: bigint; path: string } | undefined {
  if (mount === undefined) return undefined;
  const [root, point, path] = [mount.root, mount.point, canonicalPath].map((one) => one.toString('latin1'));
  const rest = path === point ? '' : path?.slice(below(point ?? '').length);
  return { device: mount.device, path: rest === '' ? (root ?? '') : `${below(root ?? '')}${rest}` };
}
