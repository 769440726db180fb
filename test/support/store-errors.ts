/** Each code of the store, provoked. */
import { chmodSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ErrorCode } from '../../lib/index.ts';
import type { LayerStore, StoreOptions } from '../../lib/store/index.ts';
import { waitingShell } from './child.ts';
import { plan } from './faults.ts';
import type { Layers, Scratch } from './scratch.ts';
import { opened } from './store.ts';

/** A store with `base` and, on it, `box`. */
async function twoLayers(scratch: Scratch, options: Partial<StoreOptions> = {}): Promise<LayerStore> {
  const store = await opened(scratch, options);
  await store.create('base', { kind: 'image' });
  await store.create('box', { kind: 'container', parent: 'base' });
  return store;
}

/** What Docker leaves of such a store: no word of this package. */
export async function foreignStore(scratch: Scratch, options: Partial<StoreOptions>): Promise<LayerStore> {
  const store = await twoLayers(scratch);
  await store.close();
  rmSync(join(store.root, '.overlayfs'), { recursive: true });
  for (const id of ['base', 'box']) rmSync(join(store.root, id, 'overlayfs.json'));
  return opened(scratch, options);
}

/** By code, what fails with it. */
export const storeErrors: Partial<Record<ErrorCode, (layers: Layers, scratch: Scratch) => unknown>> = {
  ERR_OVERLAY_STORE_ROOT: (_, s) => {
    s.file('overlay2/something');
    return opened(s);
  },
  ERR_OVERLAY_STORE_ROOT_UNSAFE: (_, s) => {
    chmodSync(s.directory('overlay2'), 0o777);
    return opened(s);
  },
  ERR_OVERLAY_STORE_READONLY: async (_, s) => (await foreignStore(s, {})).remove('box'),
  ERR_OVERLAY_STORE_OWNER_ALIVE: async (_, s) => {
    const database = s.file('volumes/metadata.db');
    await using _lock = await waitingShell(`exec 9<> '${database}'; flock -x 9`);
    return await foreignStore(s, { foreign: 'write' });
  },
  ERR_OVERLAY_STORE_ID: async (_, s) => (await opened(s)).get('..'),
  ERR_OVERLAY_STORE_LAYER_EXISTS: async (_, s) => (await twoLayers(s)).create('base', { kind: 'image' }),
  ERR_OVERLAY_STORE_LAYER_NOT_FOUND: async (_, s) => (await opened(s)).chain('nobody'),
  ERR_OVERLAY_STORE_LAYER_DAMAGED: async (_, s) => {
    const store = await twoLayers(s);
    writeFileSync(join(store.root, 'box/lower'), '');
    return store.mount('box');
  },
  ERR_OVERLAY_STORE_LAYER_READONLY: async (_, s) => (await twoLayers(s)).mount('base', { readonly: false }),
  ERR_OVERLAY_STORE_LAYER_IN_USE: async (_, s) => {
    const store = await twoLayers(s);
    await using _mounted = await store.mount('box');
    return await store.remove('box');
  },
  ERR_OVERLAY_STORE_LAYER_HAS_CHILDREN: async (_, s) => (await twoLayers(s)).remove('base'),
  ERR_OVERLAY_STORE_LOCKED: async (_, s) => {
    const store = await twoLayers(s, { lockTimeout: 5 });
    await using _lock = await waitingShell(`exec 9< '${store.root}/box'; flock -x 9`);
    return await store.mount('box');
  },
  ERR_OVERLAY_STORE_FAILED: async (_, s) => {
    const store = await twoLayers(s);
    plan({ call: 'symlinkat', error: 'EIO' });
    return store.create('new', { kind: 'image' });
  },
  ERR_OVERLAY_STORE_CLOSED: async (_, s) => {
    const store = await opened(s);
    await store.close();
    return store.list();
  },
};
