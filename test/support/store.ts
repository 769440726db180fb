/** Stores for tests: light ones, with a few layers. */
import { type LayerStore, openStore, type StoreOptions } from '../../lib/store/index.ts';
import { mknod } from './commands.ts';
import { afterThisTest, type Scratch } from './scratch.ts';

/** A store in `overlay2` that is closed when the test ends. Nothing is synced and nobody waits for long. */
export async function opened({ path }: Scratch, options: Partial<StoreOptions> = {}): Promise<LayerStore> {
  const usual: StoreOptions = { driver: 'overlay2', durability: 'none', lockTimeout: 200 };
  const store = await openStore(path('overlay2'), { ...usual, ...options });
  afterThisTest(() => store.close());
  return store;
}

/** base (a, dir/b) ← next (dir/c; a removed) ← box. */
export async function threeLayers(store: LayerStore, scratch: Scratch): Promise<void> {
  scratch.file('base/a', 'from base');
  scratch.file('base/dir/b', 'below');
  await store.create('base', { kind: 'image' });
  await store.apply('base', scratch.path('base'));
  scratch.file('next/dir/c', 'above');
  mknod(scratch.path('next/a'), 'c', 0, 0);
  await store.create('next', { kind: 'image', parent: 'base' });
  await store.apply('next', scratch.path('next'));
  await store.create('box', { kind: 'container', parent: 'next' });
}
