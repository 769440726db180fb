/** Everything that changes a store, on one that has a layer of each kind. */
import { execFileSync } from 'node:child_process';
import { linkSync, lstatSync, mkdirSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type LayerStore, openStore, type StoreDriver, type StoreOptions } from '../../lib/store/index.ts';
import type { Scratch } from './scratch.ts';

export const drivers: readonly StoreDriver[] = ['overlay2', 'overlay'];

/** Where a container layer of this driver is written to. */
export const upperOf = (driver: StoreDriver): string => (driver === 'overlay' ? 'upper' : 'diff');

/** What is changed, and how. */
export interface Operation {
  readonly run: (store: LayerStore, scratch: Scratch) => Promise<unknown>;
  /** The layer that it makes, fills or removes, and the names that the layer shows then; undefined: it is gone. */
  readonly layer?: string;
  readonly shows?: string | undefined;
  /** The name that the layer itself has added then. */
  readonly adds?: string;
  /** Puts something there to be cleared up. */
  readonly before?: (store: LayerStore) => void;
}

/** By name; for a store as `preparedStore()` makes one. */
export const operations: Readonly<Record<string, Operation>> = {
  'creating a base image': {
    run: (store) => store.create('new', { kind: 'image' }),
    layer: 'new',
    shows: '',
  },
  'creating a container on an image': {
    run: (store) => store.create('new', { kind: 'container', parent: 'base' }),
    layer: 'new',
    shows: names(),
  },
  'creating a container on one that could be written to': {
    run: (store) => store.create('new', { kind: 'container', parent: 'box' }),
    layer: 'new',
    shows: names('own'),
  },
  'creating an image on an empty one': {
    run: (store) => store.create('new', { kind: 'image', parent: 'empty' }),
    layer: 'new',
    shows: names(),
  },
  'filling a base image': {
    run: (store, { path }) => store.apply('bare', path('other')),
    layer: 'bare',
    shows: 'other',
    adds: 'other',
  },
  'filling an image': {
    run: (store, { path }) => store.apply('empty', path('other')),
    layer: 'empty',
    shows: names('other'),
    adds: 'other',
  },
  'filling a container': {
    run: (store, { path }) => store.apply('clean', path('other')),
    layer: 'clean',
    shows: names('other'),
    adds: 'other',
  },
  'filling an image with changes': {
    run: async (store) => {
      await using changes = store.changes('box');
      await store.apply('empty', changes);
    },
    layer: 'empty',
    shows: names('own'),
    adds: 'own',
  },
  'committing a container': {
    run: (store) => store.commit('box', { id: 'new' }),
    layer: 'new',
    shows: names('own'),
    adds: 'own',
  },
  'removing a layer': { run: (store) => store.remove('box'), layer: 'box', shows: undefined },
  'mounting and unmounting': {
    run: async (store) => {
      const box = await store.mount('box', { keepOnExit: false });
      await box.unmount().catch(async (error) => {
        await box.unmount();
        throw error;
      });
    },
  },
  'collecting garbage': { run: (store) => store.gc(), before: litter },
  mending: { run: (store) => store.check({ repair: true }), before: litter },
};

function names(...more: readonly string[]): string {
  return ['dir', 'fifo', 'file', 'hard', 'soft', ...more].sort().join();
}

function litter(store: LayerStore): void {
  mkdirSync(join(store.root, '.overlayfs/new/1/diff'), { recursive: true });
  mkdirSync(join(store.root, '.overlayfs/removed/1/diff'), { recursive: true });
  mkdirSync(join(store.root, 'box/merged'), { recursive: true });
  if (store.driver === 'overlay') writeFileSync(join(store.root, 'box/lower-id'), '');
  else {
    symlinkSync('../gone/diff', join(store.root, 'l', 'A'.repeat(26)));
    writeFileSync(join(store.root, 'box/link'), '');
  }
}

/**
 * A store with a filled image `base`, on it the containers `box` (with a file) and `clean`, and the image `empty`; and an empty
 * base image `bare`.
 */
export async function preparedStore(
  scratch: Scratch,
  name: string,
  options: StoreOptions,
): Promise<LayerStore> {
  if (!readdirSync(scratch.root).includes('content')) makeContent(scratch);
  const store = await openStore(scratch.path(name), { lockTimeout: 0, ...options });
  await store.create('base', { kind: 'image' });
  await store.apply('base', scratch.path('content'));
  await store.create('box', { kind: 'container', parent: 'base' });
  scratch.file(`${name}/box/${upperOf(options.driver)}/own`, 'of the box');
  await store.create('clean', { kind: 'container', parent: 'base' });
  await store.create('empty', { kind: 'image', parent: 'base' });
  await store.create('bare', { kind: 'image' });
  return store;
}

function makeContent(scratch: Scratch): void {
  const file = scratch.file('content/file', 'content');
  linkSync(file, scratch.path('content/hard'));
  symlinkSync('file', scratch.path('content/soft'));
  scratch.directory('content/dir');
  execFileSync('mkfifo', [scratch.path('content/fifo')]);
  execFileSync('setfattr', ['-n', 'trusted.told', '-v', 'true', file]);
  scratch.file('other/other', 'of the other');
}

/** Everything that lies in a store, with its type, mode and size, but for what nobody else looks at. */
export function listing(root: string, below = ''): string[] {
  return readdirSync(join(root, below), { withFileTypes: true }).flatMap((entry) => {
    const path = join(below, entry.name);
    // What the kernel keeps is no part of a layer.
    if (path === '.overlayfs' || path.endsWith('work/work')) return [];
    const { mode, size } = lstatSync(join(root, path));
    const own = `${path} ${mode.toString(8)} ${entry.isDirectory() ? '' : size}`;
    return entry.isDirectory() ? [own, ...listing(root, path)] : [own];
  });
}

/** The names that a layer shows, or undefined where there is none. */
export async function shown(store: LayerStore, id: string): Promise<string | undefined> {
  if ((await store.get(id)) === undefined) return undefined;
  await using view = await store.mount(id, { readonly: true, keepOnExit: false });
  return readdirSync(view.path()).sort().join();
}
