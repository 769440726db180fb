/**
 * An open store, as what is done in it sees it.
 * @module
 */
import { overlayError } from '../errors.ts';
import type { StoreDirectory } from './directory.ts';
import type { Driver, LayerRecord } from './driver.ts';
import { directoryTypes } from './entry.ts';
import { layerNotFound } from './errors.ts';
import { isId } from './ids.ts';
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
  return layer;
}

/** Those of these that are layers. */
export async function readLayers(
  { directory, driver }: StoreContext,
  ids: readonly string[],
): Promise<LayerRecord[]> {
  const { names } = driver;
  const found = await directory.read(ids.flatMap((id) => names.map((name) => `${id}/${name}`)));
  return ids.flatMap((id, index) => {
    const entries = new Map(
      names.map((name, at) => [name, found[index * names.length + at] as NonNullable<(typeof found)[0]>]),
    );
    return driver.isLayer(entries) ? [driver.record(id, entries)] : [];
  });
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
