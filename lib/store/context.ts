/**
 * An open store, as what is done in it sees it.
 * @module
 */
import { constants } from 'node:os';
import { overlayError } from '../errors.ts';
import { isNativeError } from '../native-errors.ts';
import type { HeldLock, StoreDirectory } from './directory.ts';
import type { Driver, LayerRecord } from './driver.ts';
import { directoryTypes, type Entry } from './entry.ts';
import { explainStore, layerNotFound } from './errors.ts';
import { isId } from './ids.ts';
import { ownDirectory } from './layout.ts';
import { type MergedState, mergedProbe, mergedState } from './merged.ts';
import { hasDamagedSidecar } from './sidecar.ts';
import { removeTree, type Step } from './steps.ts';
import type { Durability, Layer } from './types.ts';

export interface StoreContext {
  readonly directory: StoreDirectory;
  readonly driver: Driver;
  readonly durability: Durability;
  readonly readonly: boolean;
  readonly foreign: boolean;
}

/** A layer, or undefined where there is none. */
export async function findLayer(store: StoreContext, id: string): Promise<LayerRecord | undefined> {
  const [layer] = await readLayers(store, [id]);
  return layer;
}

/** A layer; throws where there is none. */
export async function loadLayer(store: StoreContext, id: string): Promise<LayerRecord> {
  const layer = await findLayer(store, id);
  if (layer === undefined) throw layerNotFound(id, store.directory.shown);
  return settled(store, layer);
}

/** Those that lie on a layer. */
export async function childrenOf(store: StoreContext, id: string): Promise<string[]> {
  const parents = await store.driver.parents(store.directory, await allLayers(store));
  return [...parents].flatMap(([child, parent]) => (parent === id ? [child] : []));
}

/** Whether it has a child, where only a look at all layers tells: containers/storage marks none that has one. */
export async function hasUnmarkedChild(store: StoreContext, { id, sidecar }: LayerRecord): Promise<boolean> {
  if (sidecar !== undefined && !store.foreign) return false;
  return (await childrenOf(store, id)).length > 0;
}

/** What has a child is read-only. */
export async function settled(store: StoreContext, layer: LayerRecord): Promise<LayerRecord> {
  if (layer.readonly || !(await hasUnmarkedChild(store, layer))) return layer;
  return { ...layer, readonly: true };
}

/** Those of these that are layers. */
export async function readLayers(
  { directory, driver }: StoreContext,
  ids: readonly string[],
): Promise<LayerRecord[]> {
  const found = await directory.readIn(ids, driver.names);
  return ids.flatMap((id, index) => recordOf(driver, id, found, index * driver.names.length) ?? []);
}

/** What has been read of a layer, beginning at `from`. */
function recordOf(
  driver: Driver,
  id: string,
  found: readonly Entry[],
  from: number,
): LayerRecord | undefined {
  const entries = new Map<string, Entry>();
  let at = from;
  for (const name of driver.names) entries.set(name, found[at++] as Entry);
  if (!driver.isLayer(entries)) return undefined;
  const layer = driver.record(id, entries);
  // It may have been an image.
  return hasDamagedSidecar(layer) ? { ...layer, readonly: true } : layer;
}

/** Every layer, sorted by id. */
export async function allLayers(store: StoreContext): Promise<LayerRecord[]> {
  const ids = (await store.directory.names()).flatMap(({ text, type }) =>
    text !== undefined && isId(text) && directoryTypes.includes(type) ? [text] : [],
  );
  return readLayers(store, ids.sort());
}

/** For the caller. */
export function publicLayer(
  { directory }: StoreContext,
  { id, kind, readonly, sidecar }: LayerRecord,
  parent: string | undefined,
): Layer {
  return {
    id,
    ...(parent === undefined ? {} : { parent }),
    kind,
    readonly,
    path: `${directory.shown}/${id}`,
    own: sidecar !== undefined,
  };
}

/** Throws where the store is only read. */
export function mustBeWritable({ directory, readonly, foreign }: StoreContext): void {
  if (!readonly) return;
  throw overlayError(
    'ERR_OVERLAY_STORE_READONLY',
    foreign
      ? `the store ${directory.shown} has been made by another program, and is only read`
      : `the store ${directory.shown} has been opened to be read only`,
    foreign ? "Open it with foreign: 'write', while that program does not run" : 'Open it without readonly',
    { path: directory.shown },
  );
}

/**
 * Waits for a layer's lock: exclusive to who removes it, fills it, saves it, mounts it at `merged`, or makes the first layer on
 * one that could be written to until then; shared by who mounts it elsewhere, or makes another layer on top.
 */
export async function lockLayer(
  store: StoreContext,
  id: string,
  kind: 'shared' | 'exclusive',
): Promise<HeldLock> {
  return store.directory.lock(id, kind).catch((error) => failedLock(store, id, error));
}

function failedLock({ directory }: StoreContext, id: string, error: unknown): never {
  const missing = isNativeError(error) && error.errno === -constants.errno.ENOENT;
  throw missing ? layerNotFound(id, directory.shown) : explainStore(error, `layer ${id}`);
}

/** A layer under its lock. */
export interface LockedLayer extends Disposable {
  readonly layer: LayerRecord;
  /** What its `merged` is: a mount point, a directory that is left from one, or something else that nobody has made. */
  readonly merged: MergedState;
}

/** Waits for a layer's lock, as {@link lockLayer}, and looks at it then. */
export async function lockedLayer(
  store: StoreContext,
  id: string,
  kind: 'shared' | 'exclusive',
): Promise<LockedLayer> {
  const { directory, driver } = store;
  const paths = [...driver.names, mergedProbe].map((name) => `${id}/${name}`);
  const { lock, entries } = await directory
    .lockAndRead(id, kind, paths)
    .catch((error) => failedLock(store, id, error));
  try {
    const layer = recordOf(driver, id, entries, 0);
    if (layer === undefined) throw layerNotFound(id, directory.shown);
    return {
      layer: await settled(store, layer),
      merged: mergedState(entries.at(-1)),
      [Symbol.dispose]: lock.release,
    };
  } catch (error) {
    lock.release();
    throw error;
  }
}

/**
 * Makes a directory that nobody knows, and holds it against whoever cleans up for as long as this process lives. The lock on
 * what is ours is let go at once: filling it may take long.
 */
export async function stage(
  { directory, durability }: StoreContext,
  at: string,
  steps: readonly Step[],
): Promise<HeldLock> {
  try {
    using _ = await directory.lock(ownDirectory, 'shared');
    await directory.run(steps, durability !== 'none');
    return await directory.lock(at, 'exclusive');
  } catch (error) {
    await directory.run([removeTree(at)], false).catch(() => {});
    throw explainStore(error, `the store ${directory.shown}`);
  }
}
