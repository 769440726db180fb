// For random layers: both storage drivers give the same merged trees, and tell the same changes.
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { type LayerStore, openStore, type StoreDriver } from '../../lib/store/index.ts';
import { configurations, type Operation, operate, rounds, withLowers } from '../support/operations.ts';
import { describeOn } from '../support/scratch.ts';
import { replay, sequences } from '../support/sequences.ts';
import { asPlain, type View, view } from '../support/view.ts';

const plainOrRedirected = configurations.filter(({ name }) => ['plain', 'redirectDir on'].includes(name));

describeOn(['tmpfs', 'ext4'], 'overlay and overlay2', (scratch) => {
  it.each(plainOrRedirected)('show the same of the same layers: $name', async (configuration) => {
    let count = 0;
    const property = fc.asyncProperty(rounds(3), async (drawn) => {
      const root = scratch.path(`${count++}`);
      await withLowers(root, configuration, drawn.slice(0, -1), async ({ lower }) => {
        const content = [...lower].reverse();
        const seen = await everything(join(root, 'overlay2'), 'overlay2', content, drawn.at(-1) ?? []);
        expect(await everything(join(root, 'overlay'), 'overlay', content, drawn.at(-1) ?? [])).toEqual(seen);
      });
    });
    await fc.assert(property, { ...replay, numRuns: sequences(10) });
  });
});

/** All that can be seen of a store of these layers, of a container on them, and of the image that is made of that. */
async function everything(
  root: string,
  driver: StoreDriver,
  content: readonly string[],
  changing: readonly Operation[],
): Promise<Record<string, unknown>> {
  mkdirSync(root, 0o710);
  await using store = await openStore(root, { driver, durability: 'none' });
  const seen: Record<string, unknown> = {};
  for (const [number, directory] of content.entries()) {
    const parent = number === 0 ? {} : { parent: `image-${number - 1}` };
    await store.create(`image-${number}`, { kind: 'image', ...parent });
    await store.apply(`image-${number}`, directory);
    seen[`image-${number}`] = await shown(store, `image-${number}`);
    seen[`changes of image-${number}`] = await told(store, `image-${number}`);
  }
  await store.create('box', { kind: 'container', parent: `image-${content.length - 1}` });
  {
    await using box = await store.mount('box');
    await operate(box.path(), changing);
    seen.box = timeless(asPlain(await view(box.path())));
  }
  seen['changes of box'] = await told(store, 'box');
  await store.commit('box', { id: 'committed' });
  seen.committed = timeless(await shown(store, 'committed'));
  seen['changes of committed'] = await told(store, 'committed');
  await store.create('on-box', { kind: 'container', parent: 'box' });
  {
    await using onBox = await store.mount('on-box');
    seen['on-box'] = timeless(asPlain(await view(onBox.path())));
  }
  seen.problems = await store.check();
  return seen;
}

async function shown(store: LayerStore, id: string): Promise<View> {
  await using overlay = await store.mount(id);
  return asPlain(await view(overlay.path()));
}

// What was done to both was not done at the same moment.
const timeless = (seen: View) =>
  Object.fromEntries(Object.entries(seen).map(([path, { mtime: _, ...one }]) => [path, one]));

async function told(store: LayerStore, id: string): Promise<unknown[]> {
  const all: unknown[] = [];
  // The files of a legacy image are hard links: the kernel notes no origin in their copies, so no rename is claimed.
  await using stream = store.changes(id, { renames: false });
  for await (const { kind, pathBytes, fromBytes, type } of stream)
    all.push([kind, pathBytes.toString('latin1'), fromBytes?.toString('latin1'), type]);
  return all;
}
