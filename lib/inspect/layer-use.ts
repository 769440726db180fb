/**
 * Whether a live overlay has a directory as a layer, as far as this process's own overlays and the mount tables tell. What is an
 * upper or a work directory the kernel knows better.
 * @module
 */
import { binding } from '../addon.ts';
import type { NativeRef } from '../native/binding.ts';
import { showPath } from '../paths.ts';
import { listOverlays, type MountedOverlay, overlaysElsewhere, parseOverlayOptions } from './mount-table.ts';
import { isWholeFileSystem, relation } from './relation.ts';

/** Where to look for a layer, and what for. */
interface TableSearch {
  /** A part of its name: layers that are named otherwise are not opened, and detached overlays not looked at. */
  readonly name?: string;
  /** In this mount namespace alone: what others have takes a look at every process. */
  readonly here?: boolean;
}

/** By which overlay, in words; undefined: none is known. The second-best evidence of an upper, and all that there is of a lower. */
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
