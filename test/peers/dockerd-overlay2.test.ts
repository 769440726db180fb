/** Docker's daemon with its overlay2 driver: a root that this package has written, and one that it has not. */
import { execFileSync } from 'node:child_process';
import { readdirSync, writeFileSync } from 'node:fs';
import { basename, dirname } from 'node:path';
import { expect, it } from 'vitest';
import { openStore } from '../../lib/store/index.ts';
import { describeDockerd } from '../support/peers/docker-suite.ts';
import { startDockerd } from '../support/peers/dockerd.ts';
import { openEnclosure } from '../support/peers/enclosure.ts';
import { describeWith } from '../support/peers/needs.ts';
import { scratchOn } from '../support/scratch.ts';

describeDockerd('overlay2');

describeWith(
  ['docker.io', 'busybox-static'],
  'a root of its own, of dockerd --storage-driver=overlay2',
  () => {
    const scratch = scratchOn('tmpfs');

    it('is read while it lives, written to when it has stopped, and goes on after that', async () => {
      const archive = scratch.path('image.tar');
      execFileSync('tar', ['-C', '/', '-cf', archive, 'bin/busybox']);
      const root = scratch.path('docker/overlay2');
      const open = () => openStore(root, { driver: 'overlay2', durability: 'none', foreign: 'write' });
      await using enclosure = await openEnclosure(scratch);
      let base: string;
      {
        await using dockerd = await startDockerd(enclosure, scratch, 'overlay2');
        dockerd.docker('import', archive, 'theirs');
        const data = dockerd.docker('inspect', '--format', '{{.GraphDriver.Data.UpperDir}}', 'theirs');
        base = basename(dirname(data));
        await using store = await openStore(root, { driver: 'overlay2' });
        expect(store).toMatchObject({ foreign: true, readonly: true });
        expect((await store.list()).map(({ id, own }) => ({ id, own }))).toEqual([{ id: base, own: false }]);
        await expect(open()).rejects.toMatchObject({
          code: 'ERR_OVERLAY_STORE_OWNER_ALIVE',
          message: expect.stringMatching(/\.db is locked \(flock\(2\)\)/),
        });
      }
      {
        await using store = await open();
        await store.create('box', { kind: 'container', parent: base });
        {
          await using box = await store.mount('box');
          writeFileSync(box.path('new'), 'ours');
          expect(readdirSync(box.path()).sort()).toEqual(['bin', 'new']);
        }
        await store.commit('box', { id: 'committed' });
        expect(await store.chain('committed')).toEqual(['committed', base]);
        await store.remove('box');
        await store.remove('committed');
        expect(await store.check()).toEqual([]);
        await using again = await startDockerd(enclosure, scratch, 'overlay2');
        const run = ['run', '--rm', '--pull=never', '--network=none', 'theirs', '/bin/busybox', 'ls', '/'];
        expect(again.docker(...run).split('\n')).toEqual(['bin', 'dev', 'etc', 'proc', 'sys']);
        // It may have been started since.
        await expect(store.create('box', { kind: 'container', parent: base })).rejects.toMatchObject({
          code: 'ERR_OVERLAY_STORE_OWNER_ALIVE',
        });
      }
    });
  },
);
