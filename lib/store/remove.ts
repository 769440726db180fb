/**
 * Removing layers: out of the store by one rename, and deleted after it.
 * @module
 */
import { constants } from 'node:os';
import { overlayError } from '../errors.ts';
import { isNativeError } from '../native-errors.ts';
import { allLayers, lockedLayer, type StoreContext } from './context.ts';
import type { LayerRecord } from './driver.ts';
import { explainStore, layerInUse } from './errors.ts';
import { newPrivateName } from './ids.ts';
import { keptFromRemoval, mustBeUnused, writtenTo } from './in-use.ts';
import { ownDirectory, removedDirectory } from './layout.ts';
import { mountedAtMerged } from './mount.ts';
import { hasDamagedSidecar } from './sidecar.ts';
import { lockShared, removeTree, rename, type Step, sync, unlock } from './steps.ts';

/** Removes a layer that nobody uses. */
export async function removeLayer(store: StoreContext, id: string): Promise<void> {
  const { directory, driver, durability } = store;
  using locked = await lockedLayer(store, id, 'exclusive');
  const { layer } = locked;
  if (locked.merged === 'mounted') throw mountedAtMerged(store, id);
  const unused = await refuseUsed(store, layer);
  await refuseParent(store, layer);
  const gone = `${removedDirectory}/${newPrivateName()}`;
  try {
    await directory.run(
      [
        ...unused,
        lockShared(ownDirectory),
        rename(id, gone),
        sync(''),
        ...driver.withdraw(layer),
        unlock,
        removeTree(gone),
      ],
      durability !== 'none',
    );
  } catch (error) {
    if (isInUse(error)) throw layerInUse(id, writtenTo);
    throw explainStore(error, `removing layer ${id} of ${directory.shown}`);
  }
}

// Whether something writes to it is asked last, as a step of the removal.
async function refuseUsed(store: StoreContext, layer: LayerRecord): Promise<Step[]> {
  const how = await keptFromRemoval(store, layer);
  if (how !== undefined) throw layerInUse(layer.id, how);
  return mustBeUnused(store, layer);
}

const isInUse = (error: unknown): boolean =>
  isNativeError(error) && error.errno === -constants.errno.EBUSY && error.syscall === 'fsconfig';

async function refuseParent(store: StoreContext, layer: LayerRecord): Promise<void> {
  if (!layer.readonly) return;
  const children = await childrenOnDisk(store, layer);
  if (children.length === 0) return;
  const others = children.length > 1 ? ` and ${children.length - 1} more` : '';
  throw overlayError(
    'ERR_OVERLAY_STORE_LAYER_HAS_CHILDREN',
    `layer ${layer.id} lies below ${children[0]}${others}`,
    'Remove those first',
    { path: `${store.directory.shown}/${layer.id}` },
  );
}

// Those of which nothing names the parent at once are asked one by one: what has lost the list of its parents may lie on this
// layer, and then it stays. What is lost itself can be removed.
async function childrenOnDisk(store: StoreContext, layer: LayerRecord): Promise<string[]> {
  const { directory, driver } = store;
  const layers = await allLayers(store);
  const parents = await driver.parents(directory, layers);
  const children: string[] = [];
  for (const one of layers) {
    if (one.id === layer.id) continue;
    const known = parents.get(one.id);
    const ask = known === undefined && !hasDamagedSidecar(layer);
    const parent = ask ? (await driver.chain(directory, one))[0] : known;
    if (parent === layer.id) children.push(one.id);
  }
  return children;
}
