/**
 * Mounting layers on their chains, and unmounting them.
 * @module
 */
import { constants } from 'node:os';
import { binding } from '../addon.ts';
import type { OverlayError } from '../errors.ts';
import { listOverlays, type MountedOverlay } from '../inspect/mount-table.ts';
import { isNativeError } from '../native-errors.ts';
import { mountChecked } from '../overlay/mount.ts';
import type { Overlay } from '../overlay/overlay.ts';
import { type UnmountOptions, unmount, whileBusy } from '../overlay/unmount.ts';
import type { LayerStack } from '../types.ts';
import {
  findLayer,
  type LockedLayer,
  loadLayer,
  lockedLayer,
  type StoreContext,
  settled,
} from './context.ts';
import type { LayerParts, LayerRecord } from './driver.ts';
import { explainStore, layerInUse, layerNotFound, layerReadonly } from './errors.ts';
import { mountedElsewhere } from './in-use.ts';
import { mergedProbe, mergedState } from './merged.ts';
import { mustBeOurs } from './owner.ts';
import { damagedSidecar, hasDamagedSidecar } from './sidecar.ts';
import { removeEmpty } from './steps.ts';
import type { MountLayerOptions } from './types.ts';

const { EBUSY, ENOTEMPTY } = constants.errno;

/** Mounts a layer. A target is absolute and in bytes. */
export async function mountLayer(
  store: StoreContext,
  id: string,
  { target, ...options }: Omit<MountLayerOptions, 'target'> & { readonly target?: Buffer },
): Promise<Overlay> {
  const { directory } = store;
  // To look at a layer from elsewhere changes nothing in the store.
  const viewing = store.readonly && target !== undefined && options.readonly !== false;
  if (!viewing) await mustBeOurs(store);
  // Whoever removes or fills the layer waits, or has finished; there is one `merged`, and who mounts there is alone.
  using locked = await lockedLayer(store, id, target === undefined ? 'exclusive' : 'shared');
  const layer = viewing ? { ...locked.layer, readonly: true } : locked.layer;
  const readonly = options.readonly ?? layer.readonly;
  if (layer.readonly && !readonly) throw layerReadonly(id, whyReadonly(layer));
  if (target === undefined) await clearMerged(store, locked);
  const { lower, upper, work } = await partsOf(store, layer);
  return await mountChecked({
    lower: lower.map((path) => directory.bytesOf(path)),
    dataOnlyLower: [],
    ...(upper === undefined ? {} : { upper: directory.bytesOf(upper) }),
    ...(work === undefined ? {} : { work: directory.bytesOf(work) }),
    target: target ?? directory.bytesOf(`${id}/merged`),
    ...(target === undefined ? { mkdirTarget: true, targetMode: 0o700 } : {}),
    readonly,
    allowSingleLower: true,
    keepOnExit: options.keepOnExit ?? true,
    ...(options.signal === undefined ? {} : { signal: options.signal }),
  });
}

/** The directories that a layer is mounted from, as paths. */
export async function stackOfLayer(store: StoreContext, id: string): Promise<LayerStack> {
  const { directory } = store;
  const { lower, upper, work } = await partsOf(store, await loadLayer(store, id));
  return {
    lower: lower.map((path) => directory.pathOf(path)),
    ...(upper === undefined ? {} : { upper: directory.pathOf(upper) }),
    ...(work === undefined ? {} : { work: directory.pathOf(work) }),
  };
}

/** Unmounts what is mounted of this layer in this namespace: at `merged`, and elsewhere. */
export async function unmountLayer(store: StoreContext, id: string, options: UnmountOptions): Promise<void> {
  const { directory } = store;
  const [inside] = await directory.readIn([id], [mergedProbe]);
  const atMerged = mergedState(inside) === 'mounted';
  if (atMerged) await unmount(directory.bytesOf(`${id}/merged`), options);
  const layer = await findLayer(store, id);
  if (layer === undefined) {
    if (atMerged) return;
    throw layerNotFound(id, directory.shown);
  }
  for (const overlay of await mountsOf(store, layer)) await unmountOverlay(overlay, id, options);
  if (atMerged || mergedState(inside) === 'left') await tidyMerged(store, layer);
}

async function unmountOverlay(overlay: MountedOverlay, id: string, options: UnmountOptions): Promise<void> {
  const { mountId, target, targetBytes } = overlay;
  if (overlay.uniqueIds) {
    await whileBusy({ mountId, target }, options, () => binding().unmountById(mountId, targetBytes));
    return;
  }
  // Before Linux 6.8 the id may be another mount's by now: by name, if that is no other's.
  const here = (await listOverlays()).filter((one) => one.targetBytes.equals(targetBytes));
  if (here.at(-1)?.mountId !== mountId) throw layerInUse(id, `another overlay lies on ${target}`);
  await unmount(targetBytes, options);
}

async function partsOf(store: StoreContext, layer: LayerRecord): Promise<LayerParts> {
  const { directory, driver } = store;
  const parts = driver.parts(layer, await driver.chain(directory, layer));
  const { lower, upper, work } = parts;
  await directory.mustBeDirectories([...lower, ...[upper, work].filter((path) => path !== undefined)]);
  return parts;
}

function whyReadonly(layer: LayerRecord): string {
  if (hasDamagedSidecar(layer)) return damagedSidecar;
  return layer.kind === 'image' ? 'it is an image' : 'it has a child';
}

// A directory that is left from a mount would not be removed by the unmount of the next.
async function clearMerged(store: StoreContext, { layer, merged }: LockedLayer): Promise<void> {
  if (merged === 'mounted') throw mountedAtMerged(store, layer.id);
  if (merged === 'missing') return;
  const how = await mountedElsewhere(store, layer);
  if (how !== undefined) throw layerInUse(layer.id, how);
  await removeMerged(store, layer.id);
}

// Whoever holds the layer's lock may be mounting it, in another namespace.
async function tidyMerged(store: StoreContext, layer: LayerRecord): Promise<void> {
  if (store.readonly) return;
  using lock = await store.directory.tryLock(layer.id).catch(() => undefined);
  if (lock === undefined || (await mountedElsewhere(store, await settled(store, layer))) !== undefined)
    return;
  await removeMerged(store, layer.id);
}

/** The error for a layer that is mounted where it belongs. */
export const mountedAtMerged = ({ directory }: StoreContext, id: string): OverlayError =>
  layerInUse(id, `something is mounted at ${directory.shown}/${id}/merged`);

async function removeMerged({ directory }: StoreContext, id: string): Promise<void> {
  await directory.run([removeEmpty(`${id}/merged`)], false).catch((error) => {
    // Another mount has come meanwhile, or somebody keeps something in it.
    if (isNativeError(error) && [EBUSY, ENOTEMPTY].includes(-error.errno)) return;
    throw explainStore(error, `layer ${id}`);
  });
}

async function mountsOf(store: StoreContext, layer: LayerRecord): Promise<MountedOverlay[]> {
  const content = store.directory.bytesOf(`${layer.id}/${store.driver.mounted(layer)}`);
  const overlays = await listOverlays();
  return overlays
    .filter(({ upper, lower }) => (upper ?? lower[0])?.pathBytes.equals(content) === true)
    .reverse();
}
