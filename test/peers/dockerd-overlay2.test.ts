/** Docker's daemon with its overlay2 driver. */
import { basename, dirname } from 'node:path';
import { expect, it } from 'vitest';
import { openStore } from '../../lib/store/index.ts';
import { describeDockerd } from '../support/peers/docker-suite.ts';
import { startDockerd } from '../support/peers/dockerd.ts';
import { openEnclosure } from '../support/peers/enclosure.ts';
import { lettersOf } from '../support/peers/letters.ts';
import { describeWith } from '../support/peers/needs.ts';
import { scratchOn } from '../support/scratch.ts';

describeDockerd('overlay2');

describeWith(['docker.io'], 'BuildKit, in dockerd --storage-driver=overlay2', () => {
  const scratch = scratchOn('tmpfs');

  it('names layers in a way of its own, and they are read here', async () => {
    scratch.file('context/first', 'first');
    scratch.file('context/second', 'second');
    scratch.file('context/Dockerfile', 'FROM scratch\nCOPY first /\nCOPY second /\n');
    await using enclosure = await openEnclosure(scratch);
    await using dockerd = await startDockerd(enclosure, scratch, 'overlay2');
    dockerd.docker('build', '--quiet', '--network=none', '--tag', 'built', scratch.path('context'));
    const format = '{{.GraphDriver.Data.UpperDir}}:{{.GraphDriver.Data.LowerDir}}';
    const directories = dockerd.docker('inspect', '--format', format, 'built').split(':');
    const [top = '', base = ''] = directories.map((path) => basename(dirname(path)));
    expect(top).toMatch(/^[a-z0-9]{25}$/);
    await using store = await openStore(scratch.path('docker/overlay2'), { driver: 'overlay2' });
    expect(await store.chain(top)).toEqual([top, base]);
    expect(await store.get(base)).toMatchObject({ id: base, readonly: true });
    expect([await lettersOf(store, base), await lettersOf(store, top)]).toEqual([
      ['A /first'],
      ['A /second'],
    ]);
  });
});
