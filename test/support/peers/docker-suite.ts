/** What must hold between Docker's daemon and this package, whichever of its overlay drivers the daemon runs with. */
import { execFileSync } from 'node:child_process';
import { appendFileSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { mergedView } from '../../../lib/index.ts';
import { type LayerStore, openStore, type StoreDriver, type StoreOptions } from '../../../lib/store/index.ts';
import { expectMerged } from '../merged-read.ts';
import { afterThisTest, type Scratch, scratchOn } from '../scratch.ts';
import { setXattrs } from '../told.ts';
import { view } from '../view.ts';
import { asArchived, readArchive } from './archive.ts';
import { acts, attribute, doing, storeImage } from './contents.ts';
import { writeDockerMetadata } from './docker-metadata.ts';
import { type Dockerd, hasLegacyDriver, startDockerd } from './dockerd.ts';
import { openEnclosure } from './enclosure.ts';
import { digest, type Image } from './image.ts';
import { type Differences, expectSame, lettersOf, withParents } from './letters.ts';
import { describeWith } from './needs.ts';

/** What Docker calls the layers of a container, or of an image's top. */
interface DriverData {
  readonly UpperDir?: string;
  readonly RootDir?: string;
  readonly MergedDir?: string;
}

/** Where `docker diff` and `changes()` differ of what is done, and who is right. */
const differences: Differences = {
  onlyTheirs: [
    // What a directory that has gone and come back held: changes() tells `replaced`, and these with `expand`.
    'D /cases/remade/inside',
    'D /root/first',
    'D /root/second',
    // A name that is not UTF-8 cannot be in its JSON: U+FFFD in place of the byte.
    `A /cases/odd${Buffer.from('\ufffd').toString('latin1')}`,
  ],
  onlyOurs: [
    'A /cases/odd\xff',
    // Docker compares no attributes but file capabilities.
    'C /cases/marked',
    // Nor content: this file has the size that it had, and the time.
    'C /cases/same',
  ],
};

/** The suite for one of the drivers. */
export function describeDockerd(driver: StoreDriver): void {
  if (driver === 'overlay' && !hasLegacyDriver()) {
    console.warn('unavailable: dockerd --storage-driver=overlay (this dockerd has it no more)');
    describe.skip('dockerd --storage-driver=overlay (unavailable: this dockerd has it no more)', () => {});
    return;
  }
  describeWith(['docker.io', 'busybox-static'], `dockerd --storage-driver=${driver}`, () => {
    const scratch = scratchOn('tmpfs');

    const opened = async (options: Partial<StoreOptions> = {}): Promise<LayerStore> => {
      scratch.directory('docker');
      const root = scratch.path('docker', driver);
      const store = await openStore(root, { driver, durability: 'none', ...options });
      afterThisTest(() => store.close());
      return store;
    };
    const written = async (): Promise<Image> => {
      const image = await storeImage(await opened(), scratch, 'ours');
      writeDockerMetadata(scratch.path('docker'), driver, image);
      return image;
    };
    const driverData = ({ docker }: Dockerd, of: string): DriverData =>
      JSON.parse(docker('inspect', '--format', '{{json .GraphDriver.Data}}', of));
    const layerOf = (dockerd: Dockerd, of: string): string => {
      const { UpperDir, RootDir } = driverData(dockerd, of);
      return basename(dirname(UpperDir ?? RootDir ?? ''));
    };

    it('lists an image whose layers this package has made, saves the same archives, and removes it', async () => {
      const image = await written();
      await using enclosure = await openEnclosure(scratch);
      await using dockerd = await startDockerd(enclosure, scratch, driver);
      const { docker } = dockerd;
      expect(docker('info', '--format', '{{.Driver}}')).toBe(driver);
      expect(docker('images', '--no-trunc', '--format', '{{.Repository}} {{.ID}}')).toBe(`ours ${image.id}`);
      expect(JSON.parse(docker('inspect', '--format', '{{json .RootFS.Layers}}', 'ours'))).toEqual(
        image.layers.map(({ diffId }) => diffId),
      );
      docker('save', '--output', scratch.path('saved.tar'), 'ours');
      expect(savedLayers(scratch)).toEqual(image.layers.map(({ diffId }) => diffId));

      docker('rmi', 'ours');
      const store = await opened({ readonly: true });
      expect(await store.list()).toEqual([]);
      expect(await store.check()).toEqual([]);
    });

    it('runs, changes and commits a container on such an image, and all of it is read here', async () => {
      await written();
      await using enclosure = await openEnclosure(scratch);
      const store = await opened();
      let names: { readonly box: string; readonly committed: string; readonly again: string };
      {
        await using dockerd = await startDockerd(enclosure, scratch, driver);
        const { docker } = dockerd;
        dockerd.runDetached('box', 'ours');
        docker('exec', 'box', ...doing(acts));
        const box = layerOf(dockerd, 'box');
        // The daemon's mounts are in another namespace.
        for (const id of [box, 'next'])
          await expect(store.remove(id)).rejects.toMatchObject({ code: 'ERR_OVERLAY_STORE_LAYER_IN_USE' });
        docker('kill', 'box');
        docker('commit', 'box', 'committed');
        docker('create', '--network=none', '--name', 'again', 'committed');
        for (const name of ['box', 'again']) docker('export', '--output', scratch.path(`${name}.tar`), name);
        names = { box, committed: layerOf(dockerd, 'committed'), again: layerOf(dockerd, 'again') };
      }

      const { box, committed, again } = names;
      const layers = await store.list();
      expect(Object.fromEntries(layers.map(({ id, parent, own }) => [id, { parent, own }]))).toEqual({
        base: { parent: undefined, own: true },
        next: { parent: 'base', own: true },
        [`${box}-init`]: { parent: 'next', own: false },
        [box]: { parent: `${box}-init`, own: false },
        [committed]: { parent: driver === 'overlay' ? undefined : 'next', own: false },
        [`${again}-init`]: { parent: committed, own: false },
        [again]: { parent: `${again}-init`, own: false },
      });
      expect(await store.check()).toEqual([]);
      for (const [name, id] of [
        ['box', box],
        ['again', again],
      ] as const)
        await expectContent(store, id, await readArchive(scratch.path(`${name}.tar`)));

      const told = await lettersOf(store, committed);
      if (driver === 'overlay2') {
        // Its time has become a whole second, as it is in an archive.
        const onlyTheirs = ['C /data/empty'];
        expectSame(told.join('\n'), await lettersOf(store, box), { onlyTheirs, onlyOurs: [] });
      } else {
        // Nothing tells what a tree was made from.
        expect(told.filter((line) => !line.startsWith('A'))).toEqual([]);
      }

      await store.create('ours', { kind: 'container', parent: committed });
      {
        await using ours = await store.mount('ours');
        appendFileSync(ours.path('cases/written'), 'and newer\n');
      }
      expect(await lettersOf(store, 'ours')).toEqual(['C /cases/written']);
      await store.remove('ours');
    });

    it('tells of a container what changes() tells of its layer, but for what is named here', async () => {
      await written();
      await using enclosure = await openEnclosure(scratch);
      await using dockerd = await startDockerd(enclosure, scratch, driver);
      const { docker } = dockerd;
      dockerd.runDetached('box', 'ours');
      docker('exec', 'box', ...doing(acts));
      const { MergedDir = '' } = driverData(dockerd, 'box');
      await setXattrs({ ...attribute, path: join(enclosure.path(MergedDir), attribute.path) });
      docker('kill', 'box');
      const store = await opened({ readonly: true });
      const box = layerOf(dockerd, 'box');
      expectSame(docker('diff', 'box'), withParents(await lettersOf(store, box)), differences);
      // There is no letter for renames: told as such, what was moved is not deleted. The kernel keeps no origin of hard links,
      // which all files of the legacy layout are.
      const withRenames = await lettersOf(store, box, { renames: true });
      expect(withRenames.includes('D /cases/moved')).toBe(driver === 'overlay');
      expect(await lettersOf(store, box, { expand: true })).toEqual(
        expect.arrayContaining(differences.onlyTheirs.filter((line) => line.startsWith('D'))),
      );
    });

    it('has a root of its own, which is read while it lives, and written to when it has stopped', async () => {
      execFileSync('tar', ['-C', '/', '-cf', scratch.path('image.tar'), 'bin/busybox']);
      await using enclosure = await openEnclosure(scratch);
      let base: string;
      {
        await using dockerd = await startDockerd(enclosure, scratch, driver);
        dockerd.docker('import', scratch.path('image.tar'), 'theirs');
        base = layerOf(dockerd, 'theirs');
        const store = await opened();
        expect(store).toMatchObject({ foreign: true, readonly: true });
        expect((await store.list()).map(({ id, own }) => ({ id, own }))).toEqual([{ id: base, own: false }]);
        await expect(opened({ foreign: 'write' })).rejects.toMatchObject({
          code: 'ERR_OVERLAY_STORE_OWNER_ALIVE',
          message: expect.stringMatching(/\.db is locked \(flock\(2\)\)/),
        });
      }
      const store = await opened({ foreign: 'write' });
      await store.create('box', { kind: 'container', parent: base });
      {
        await using box = await store.mount('box');
        appendFileSync(box.path('bin/busybox'), 'and more');
        rmSync(box.path('bin/busybox'));
        writeFileSync(box.path('new'), 'ours');
      }
      await store.commit('box', { id: 'committed' });
      expect(await store.chain('committed')).toEqual(['committed', base]);
      expect(await lettersOf(store, 'committed')).toEqual(['D /bin/busybox', 'A /new']);
      await store.remove('box');
      await store.remove('committed');
      expect(await store.check()).toEqual([]);

      await using again = await startDockerd(enclosure, scratch, driver);
      const run = ['run', '--rm', '--pull=never', '--network=none', 'theirs', '/bin/busybox', 'ls', '/'];
      expect(again.docker(...run).split('\n')).toEqual(['bin', 'dev', 'etc', 'proc', 'sys']);
      // It may have been started since.
      await expect(store.create('box', { kind: 'container', parent: base })).rejects.toMatchObject({
        code: 'ERR_OVERLAY_STORE_OWNER_ALIVE',
      });
    });

    async function expectContent(
      store: LayerStore,
      id: string,
      archived: Record<string, unknown>,
    ): Promise<void> {
      const target = scratch.directory(`view-${id}`);
      await using mounted = await store.mount(id, { target, readonly: true });
      const shown = await view(target);
      expect(asArchived(shown)).toEqual(archived);
      expect(mounted.report.unverified).toEqual([]);
      await using merged = await mergedView(await store.stack(id));
      await expectMerged(merged, shown);
    }
  });
}

/** The digests of the layers of an archive that `docker save` or `podman save` has written, the base layer first. */
export function savedLayers({ directory, path }: Scratch): string[] {
  const saved = directory('saved');
  execFileSync('tar', ['-xf', path('saved.tar'), '-C', saved]);
  const [{ Layers }] = JSON.parse(readFileSync(join(saved, 'manifest.json'), 'utf8'));
  return (Layers as string[]).map((layer) => digest(readFileSync(join(saved, layer))));
}
