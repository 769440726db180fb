/**
 * Whether a layer is used, and how: asked of the kernel, which alone knows, and never remembered.
 * @module
 */
import { binding } from '../addon.ts';
import { findUse } from '../changes/apply-target.ts';
import { kernelFeatures } from '../inspect/kernel.ts';
import { findInTables } from '../inspect/layer-use.ts';
import { overlaysElsewhere, parseOverlayOptions } from '../inspect/mount-table.ts';
import { isSame } from '../inspect/relation.ts';
import { showPath } from '../paths.ts';
import type { StoreContext } from './context.ts';
import type { LayerRecord } from './driver.ts';
import { explainStore } from './errors.ts';
import { expectUnused, type Step } from './steps.ts';

/** Why a layer that is an upper is not to be had. */
export const writtenTo = 'a live overlay writes to it';

/**
 * How a live overlay uses the layer's content or its work directory for writing; undefined: none does. In any mount
 * namespace, lazily unmounted or never attached: it is the kernel's own mark. Where that cannot be asked for (in a user
 * namespace), the mount tables have to do.
 */
export async function usedAsUpper(store: StoreContext, layer: LayerRecord): Promise<string | undefined> {
  const content = contentOf(store, layer);
  const { detachedLayers, initialUserNamespace } = await kernelFeatures();
  if (!initialUserNamespace) return findInTables(content);
  const { answer } = await binding()
    .directoryInUse(content, detachedLayers)
    .catch((error) => {
      throw explainStore(error, `layer ${layer.id}`);
    });
  if (answer === 'unknown') return findInTables(content);
  return answer === 'yes' ? writtenTo : undefined;
}

/** How any overlay uses the layer's content; for reading, as far as mount tables tell. */
export async function usedAtAll(store: StoreContext, layer: LayerRecord): Promise<string | undefined> {
  return findUse(contentOf(store, layer));
}

/**
 * How a layer is used that is to be removed. One that can be written to is below no other, and a lower only where a store that is
 * only read shows it: this is looked for in this mount namespace, since to look into all costs more than the removal.
 */
export async function keptFromRemoval(store: StoreContext, layer: LayerRecord): Promise<string | undefined> {
  if (layer.readonly) return usedAtAll(store, layer);
  const { initialUserNamespace } = await kernelFeatures();
  if (!initialUserNamespace) return findInTables(contentOf(store, layer));
  const search = { name: nameOf(store, layer), here: !store.foreign };
  const [writing, shown] = await Promise.all([
    usedAsUpper(store, layer),
    findInTables(contentOf(store, layer), search),
  ]);
  return writing ?? shown;
}

/** That nobody writes to it, as a step right before what must not be done while somebody does; none where nobody can tell. */
export async function mustBeUnused(store: StoreContext, layer: LayerRecord): Promise<Step[]> {
  const { detachedLayers, initialUserNamespace } = await kernelFeatures();
  if (layer.readonly || !initialUserNamespace) return [];
  return [expectUnused(`${layer.id}/${store.driver.mounted(layer)}`, detachedLayers)];
}

/**
 * How the layer is mounted elsewhere than at `merged` in this mount namespace, as far as that matters to `merged`: to remove
 * that directory unmounts what is mounted there in other namespaces.
 */
export async function mountedElsewhere(store: StoreContext, layer: LayerRecord): Promise<string | undefined> {
  if (!layer.readonly) return usedAsUpper(store, layer);
  const name = nameOf(store, layer);
  const { overlays } = await overlaysElsewhere();
  const there = overlays.flatMap(({ pid, point, options }) => {
    if (!options.includes(name)) return [];
    const { lower, upper } = parseOverlayOptions(options);
    const topmost = (upper ?? lower[0])?.pathBytes;
    const named = topmost?.subarray(-name.length).equals(Buffer.from(name)) === true;
    return named ? [{ pid, point, ref: Buffer.concat([Buffer.from(`/proc/${pid}/root`), topmost]) }] : [];
  });
  // Another store has a layer of the same name.
  const [own, ...facts] = await binding().directoryFacts([
    contentOf(store, layer),
    ...there.map(({ ref }) => ref),
  ]);
  const found = there.find((_, index) => isSame(own, facts[index]));
  return found === undefined
    ? undefined
    : `it is mounted at ${showPath(found.point)} in the mount namespace of process ${found.pid}`;
}

const contentOf = (store: StoreContext, layer: LayerRecord): Buffer =>
  store.directory.bytesOf(nameOf(store, layer).slice(1));

/** How each path to the layer's content ends, in whatever namespace. */
const nameOf = ({ driver }: StoreContext, layer: LayerRecord): string =>
  `/${layer.id}/${driver.mounted(layer)}`;
