/**
 * The store as its users have it: every call checked, told to whoever listens, and waited for by `close()`.
 * @module
 */
import { abortSignal, boolean, callback, checked, oneOf } from '../arguments.ts';
import { type ChangeOptions, changesOf } from '../changes/changes.ts';
import type { ChangeStream } from '../changes/stream.ts';
import { overlayError } from '../errors.ts';
import { publishStore } from '../events.ts';
import type { Overlay } from '../overlay/overlay.ts';
import { checkUnmountOptions, type UnmountOptions, unmountKeys } from '../overlay/unmount.ts';
import { absolutePath, directoryRef } from '../paths.ts';
import type { DirRef, LayerStack } from '../types.ts';
import { checkStore } from './check.ts';
import { applyToLayer, changedStack, commitLayer, usageOfLayer } from './content.ts';
import { allLayers, findLayer, loadLayer, publicLayer, type StoreContext, settled } from './context.ts';
import { createLayer } from './create.ts';
import type { LayerRecord } from './driver.ts';
import { collectGarbage } from './gc.ts';
import { checkId } from './ids.ts';
import { mountLayer, stackOfLayer, unmountLayer } from './mount.ts';
import { mustBeOurs } from './owner.ts';
import { removeLayer } from './remove.ts';
import type {
  CreateLayerOptions,
  FillOptions,
  Garbage,
  Layer,
  LayerStore,
  MountLayerOptions,
  StoreDriver,
  StoreFinding,
  Usage,
} from './types.ts';

export class StoreOfLayers implements LayerStore {
  readonly #store: StoreContext;
  readonly #pending = new Set<Promise<unknown>>();
  #closed = false;

  constructor(store: StoreContext) {
    this.#store = store;
  }

  get root(): string {
    return this.#store.directory.shown;
  }
  get driver(): StoreDriver {
    return this.#store.driver.name;
  }
  get foreign(): boolean {
    return this.#store.foreign;
  }
  get readonly(): boolean {
    return this.#store.readonly;
  }

  async create(id: string, options: CreateLayerOptions): Promise<Layer> {
    checkId(id, 'id');
    const { kind, parent } = checked(options, {
      kind: oneOf('image', 'container'),
      parent: (value, name) => void checkId(value, name),
    });
    oneOf('image', 'container')(kind, 'kind');
    return this.#change('create', id, (store) =>
      createLayer(store, id, { kind, ...(parent === undefined ? {} : { parent }) }),
    );
  }

  async apply(
    id: string,
    content: Parameters<LayerStore['apply']>[1],
    options: FillOptions = {},
  ): Promise<Layer> {
    checkId(id, 'id');
    const filling = checked(options, { signal: abortSignal, onProgress: callback });
    const given = isDirectory(content)
      ? { directory: directoryRef(content, 'content') }
      : { changes: content };
    return this.#change('apply', id, (store) => applyToLayer(store, id, given, filling));
  }

  async mount(id: string, options: MountLayerOptions = {}): Promise<Overlay> {
    checkId(id, 'id');
    const { target, ...rest } = checked(options, {
      readonly: boolean,
      target: () => {},
      keepOnExit: boolean,
      signal: abortSignal,
    });
    const path = target === undefined ? {} : { target: absolutePath(target, 'target') };
    return this.#do('mount', id, (store) => mountLayer(store, id, { ...rest, ...path }));
  }

  async unmount(id: string, options: UnmountOptions = {}): Promise<void> {
    checkId(id, 'id');
    const given = checkUnmountOptions(options, unmountKeys);
    await this.#do('unmount', id, (store) => unmountLayer(store, id, given));
  }

  async commit(containerId: string, options: { readonly id: string } & FillOptions): Promise<Layer> {
    checkId(containerId, 'containerId');
    const { id, ...filling } = checked(options, {
      id: () => {},
      signal: abortSignal,
      onProgress: callback,
    });
    checkId(id, 'id');
    return this.#change('commit', id, (store) => commitLayer(store, containerId, id, filling));
  }

  changes(id: string, options: ChangeOptions = {}): ChangeStream {
    checkId(id, 'id');
    return changesOf(() => this.#read((store) => changedStack(store, id)), options);
  }

  async usage(
    id: string,
    options: { readonly shared?: boolean; readonly signal?: AbortSignal } = {},
  ): Promise<Usage> {
    checkId(id, 'id');
    const { shared = false, signal } = checked(options, { shared: boolean, signal: abortSignal });
    return this.#read((store) => usageOfLayer(store, id, shared, signal));
  }

  async stack(id: string): Promise<LayerStack> {
    checkId(id, 'id');
    return this.#read((store) => stackOfLayer(store, id));
  }

  async parent(id: string): Promise<string | undefined> {
    return (await this.chain(id))[1];
  }

  async chain(id: string): Promise<string[]> {
    checkId(id, 'id');
    return this.#read(async (store) => [
      id,
      ...(await store.driver.chain(store.directory, await loadLayer(store, id))),
    ]);
  }

  async remove(id: string): Promise<void> {
    checkId(id, 'id');
    await this.#change('remove', id, (store) => removeLayer(store, id));
  }

  async list(): Promise<Layer[]> {
    return this.#read(async (store) => {
      const layers = await allLayers(store);
      const parents = await store.driver.parents(store.directory, layers);
      const withChild = new Set(parents.values());
      const settle = (layer: LayerRecord) =>
        layer.readonly || !withChild.has(layer.id) ? layer : { ...layer, readonly: true };
      return layers.map((layer) => publicLayer(store, settle(layer), parents.get(layer.id)));
    });
  }

  async get(id: string): Promise<Layer | undefined> {
    checkId(id, 'id');
    return this.#read(async (store) => {
      const found = await findLayer(store, id);
      if (found === undefined) return undefined;
      const layer = await settled(store, found);
      const [parent] = await store.driver.chain(store.directory, layer);
      return publicLayer(store, layer, parent);
    });
  }

  async check(options: { readonly repair?: boolean } = {}): Promise<StoreFinding[]> {
    const { repair = false } = checked(options, { repair: boolean });
    if (!repair) return this.#read((store) => checkStore(store, false));
    return this.#change('check', undefined, (store) => checkStore(store, true));
  }

  async gc(options: { readonly dryRun?: boolean } = {}): Promise<Garbage[]> {
    const { dryRun = false } = checked(options, { dryRun: boolean });
    if (dryRun) return this.#read((store) => collectGarbage(store, true));
    return this.#change('gc', undefined, (store) => collectGarbage(store, false));
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await Promise.allSettled(this.#pending);
    this.#store.directory.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #change<T>(
    operation: string,
    id: string | undefined,
    work: (store: StoreContext) => Promise<T>,
  ): Promise<T> {
    return this.#do(operation, id, async (store) => {
      await mustBeOurs(store);
      return work(store);
    });
  }

  async #do<T>(
    operation: string,
    id: string | undefined,
    work: (store: StoreContext) => Promise<T>,
  ): Promise<T> {
    const started = performance.now();
    const event = () => ({
      root: this.root,
      operation,
      ...(id === undefined ? {} : { id }),
      duration: performance.now() - started,
    });
    try {
      const done = await this.#read(work);
      publishStore(event);
      return done;
    } catch (error) {
      publishStore(() => ({ ...event(), error }));
      throw error;
    }
  }

  // close() waits for what runs through here.
  async #read<T>(work: (store: StoreContext) => Promise<T>): Promise<T> {
    if (this.#closed) {
      throw overlayError(
        'ERR_OVERLAY_STORE_CLOSED',
        `the store ${this.root} has been closed`,
        'Open it again with openStore()',
      );
    }
    const working = work(this.#store);
    this.#pending.add(working);
    try {
      return await working;
    } finally {
      this.#pending.delete(working);
    }
  }
}

function isDirectory(content: Parameters<LayerStore['apply']>[1]): content is DirRef {
  return (
    typeof content === 'string' ||
    content instanceof Uint8Array ||
    content instanceof URL ||
    (typeof content === 'object' && content !== null && 'fd' in content)
  );
}
