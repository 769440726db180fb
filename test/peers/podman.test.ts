/** podman: its own graph root is read here, and what this package has written is an image store for it. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { mergedView } from '../../lib/index.ts';
import { type LayerStore, openStore, type StoreOptions } from '../../lib/store/index.ts';
import { expectMerged } from '../support/merged-read.ts';
import { archiveLayer, asArchived, readArchive } from '../support/peers/archive.ts';
import { writeContainersMetadata } from '../support/peers/containers-metadata.ts';
import { acts, attribute, doing, makeContents, storeImage } from '../support/peers/contents.ts';
import { savedLayers } from '../support/peers/docker-suite.ts';
import { openEnclosure } from '../support/peers/enclosure.ts';
import { hexOf, type Image } from '../support/peers/image.ts';
import { type Differences, expectSame, lettersOf, withParents } from '../support/peers/letters.ts';
import { describeWith } from '../support/peers/needs.ts';
import { type Podman, podmanIn, podmanRun } from '../support/peers/podman.ts';
import { afterThisTest, scratchOn } from '../support/scratch.ts';
import { snapshot } from '../support/snapshot.ts';
import { setXattrs } from '../support/told.ts';
import { view } from '../support/view.ts';

/** Where `podman diff` and `changes()` differ of what is done, and who is right. */
const differences: Differences = {
  onlyTheirs: [
    // Everything that lies in the upper is told: these were copied up, and are what they were.
    'C /cases/opened',
    'C /cases/touched',
    'C /data',
    'C /data/empty',
    // Directories that have gone and come back: they are there, with nothing of what they held.
    'D /cases/remade',
    'D /root',
  ],
  onlyOurs: [
    'C /cases/remade',
    'C /root',
    // What podman puts there itself is left out.
    'A /etc/mtab',
    'A /run/.containerenv',
    'C /run',
  ],
};

describeWith(['podman', 'runc', 'busybox-static'], 'podman', () => {
  const scratch = scratchOn('tmpfs');
  /** All that `podman diff` can tell of: see below. */
  const told = acts.filter((line) => !line.includes('grown'));

  const opened = async (graphRoot: string, options: Partial<StoreOptions> = {}): Promise<LayerStore> => {
    const store = await openStore(join(graphRoot, 'overlay'), {
      driver: 'overlay2',
      durability: 'none',
      ...options,
    });
    afterThisTest(() => store.close());
    return store;
  };
  const written = async (graphRoot: string): Promise<Image> => {
    const image = await storeImage(await opened(graphRoot), scratch, 'localhost/ours:latest');
    writeContainersMetadata(graphRoot, image);
    return image;
  };
  const layerOf = (podman: Podman, name: string): string =>
    podman('inspect', '--format', '{{.GraphDriver.Data.UpperDir}}', name).split('/').at(-2) ?? '';

  it('leaves a graph root that is read here: layers, parents, changes and content', async () => {
    const graphRoot = scratch.directory('graph');
    const { base } = await makeContents(scratch);
    await archiveLayer({ directory: base, archive: scratch.path('base.tar') });
    await using enclosure = await openEnclosure(scratch);
    const podman = podmanIn(enclosure, scratch, { graphRoot });
    const run = podmanRun(enclosure);
    podman('import', '--quiet', scratch.path('base.tar'), 'first');
    podman(...run, '--name', 'making', 'first', ...doing(told));
    podman('commit', '--quiet', 'making', 'second');
    podman('rm', 'making');
    podman(...run, '--name', 'box', 'second', ...doing(['echo > /data/new; rm -r made']));
    podman('export', '--output', scratch.path('box.tar'), 'box');

    const store = await opened(graphRoot);
    expect(store).toMatchObject({ foreign: true, readonly: true });
    const listed = (await store.list()).map(({ id, parent }) => ({ id, parent }));
    expect(listed).toEqual(parentsIn(graphRoot));
    const box = layerOf(podman, 'box');
    expect(await store.chain(box)).toHaveLength(3);
    expect(await store.check()).toEqual([]);
    expectSame(podman('diff', 'box'), withParents(await lettersOf(store, box)), {
      onlyTheirs: [],
      onlyOurs: [],
    });
    await expectContent(store, box);
  });

  it('has its graph root written to by nobody while its containers run', async () => {
    const graphRoot = scratch.directory('graph');
    const { base } = await makeContents(scratch);
    await archiveLayer({ directory: base, archive: scratch.path('base.tar') });
    await using enclosure = await openEnclosure(scratch);
    const podman = podmanIn(enclosure, scratch, { graphRoot });
    podman('import', '--quiet', scratch.path('base.tar'), 'first');
    podman(...podmanRun(enclosure), '--detach', '--name', 'box', 'first', '/bin/sleep', '3600');
    const box = layerOf(podman, 'box');
    await expect(opened(graphRoot, { foreign: 'write' })).rejects.toMatchObject({
      code: 'ERR_OVERLAY_STORE_OWNER_ALIVE',
      message: expect.stringContaining(`${box}/merged in the mount namespace of process`),
    });
    podman('rm', '--force', '--time', '0', 'box');
    const store = await opened(graphRoot, { foreign: 'write' });
    const [image] = await store.list();
    await store.create('ours', { kind: 'container', parent: image?.id ?? '' });
    await store.remove('ours');
    expect(podman(...podmanRun(enclosure), '--rm', 'first', '/bin/cat', '/cases/written')).toBe('old');
  });

  it('takes a store of this package as an additional one for images, and changes nothing in it', async () => {
    const ours = scratch.directory('ours');
    const image = await written(ours);
    const before = await snapshot(ours);
    const graphRoot = scratch.directory('graph');
    await using enclosure = await openEnclosure(scratch);
    const podman = podmanIn(enclosure, scratch, { graphRoot, imageStores: [ours] });
    expect(podman('images', '--no-trunc', '--format', '{{.Repository}} {{.Id}}')).toBe(
      `localhost/ours ${hexOf(image.id)}`,
    );
    podman('save', '--quiet', '--output', scratch.path('saved.tar'), 'localhost/ours');
    expect(savedLayers(scratch)).toEqual(image.layers.map(({ diffId }) => diffId));
    const run = [...podmanRun(enclosure), '--name', 'box', 'localhost/ours'];
    expect(podman(...run, ...doing([...acts, 'cat /data/plain']))).toBe('of the next layer');
    // A file has become a directory: it looks below the file, and gives up.
    expect(() => podman('diff', 'box')).toThrow('cases/grown/inside: not a directory');
    // What the container lies on is in another root.
    const store = await opened(graphRoot);
    await expect(store.chain(layerOf(podman, 'box'))).rejects.toMatchObject({
      code: 'ERR_OVERLAY_STORE_LAYER_DAMAGED',
    });
    podman('rm', 'box');
    expect(await snapshot(ours)).toEqual(before);
  });

  it('works on a store of this package as on a graph root of its own', async () => {
    const graphRoot = scratch.directory('graph');
    await written(graphRoot);
    await using enclosure = await openEnclosure(scratch);
    const podman = podmanIn(enclosure, scratch, { graphRoot });
    podman(...podmanRun(enclosure), '--name', 'box', 'localhost/ours', ...doing(told));
    const merged = podman('mount', 'box');
    await setXattrs({ ...attribute, path: join(enclosure.path(merged), attribute.path) });
    podman('umount', 'box');
    podman('export', '--output', scratch.path('box.tar'), 'box');
    podman('commit', '--quiet', 'box', 'committed');

    const store = await opened(graphRoot);
    const box = layerOf(podman, 'box');
    expect(await store.chain(box)).toEqual([box, 'next', 'base']);
    // podman marks no parent, and Docker's driver would write to one.
    const found = await store.check({ repair: true });
    expect(found.map(({ id, code, repaired }) => [id, code, repaired])).toEqual([
      ['next', 'WARN_OVERLAY_STORE_MARK', true],
    ]);
    expectSame(podman('diff', 'box'), withParents(await lettersOf(store, box)), differences);
    await expectContent(store, box);
    podman('rm', 'box');
    podman('rmi', 'committed', 'localhost/ours');
    expect(await store.list()).toEqual([]);
    expect(await store.check()).toEqual([]);
  });

  async function expectContent(store: LayerStore, box: string): Promise<void> {
    const target = scratch.directory('view');
    await using _ = await store.mount(box, { target, readonly: true });
    const shown = await view(target);
    expect(asArchived(shown)).toEqual(await readArchive(scratch.path('box.tar')));
    await using merged = await mergedView(await store.stack(box));
    await expectMerged(merged, shown);
  }
});

/** The layers as containers/storage knows them, sorted by id. */
function parentsIn(graphRoot: string): { id: string; parent: string | undefined }[] {
  const text = readFileSync(join(graphRoot, 'overlay-layers/layers.json'), 'utf8');
  const layers: readonly { readonly id: string; readonly parent?: string }[] = JSON.parse(text);
  return layers.map(({ id, parent }) => ({ id, parent })).sort((a, b) => (a.id < b.id ? -1 : 1));
}
