/** Trees of the legacy overlay where files cannot be linked: they are copied, and look the same. */
import { linkSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { clear, plan } from '../support/faults.ts';
import { describePrivileged } from '../support/needs.ts';
import { scratchOn } from '../support/scratch.ts';
import { opened } from '../support/store.ts';
import { asPlain, view } from '../support/view.ts';

describePrivileged('a store for the legacy overlay', () => {
  const scratch = scratchOn('ext4');

  it.each(['EMLINK', 'EPERM', 'EXDEV'] as const)('copies what cannot be linked: %s', async (error) => {
    const store = await opened(scratch, { driver: 'overlay' });
    scratch.file('base/file', 'from base');
    scratch.file('base/dir/one', 'two names');
    linkSync(scratch.path('base/dir/one'), scratch.path('base/dir/two'));
    scratch.file('next/new', 'from next');
    await store.create('base', { kind: 'image' });
    await store.apply('base', scratch.path('base'));
    for (const [id, fails] of [
      ['linked', false],
      ['copied', true],
    ] as const) {
      await store.create(id, { kind: 'image', parent: 'base' });
      // What is copied gets its name by linkat(2) as well: the file of `next` first, and after that each one that could not
      // be linked. Those calls go through.
      if (fails) plan(...[1, 2, 3, 4].map((skip) => ({ call: 'linkat', error, skip, times: 1 })));
      await store.apply(id, scratch.path('next'));
      clear();
    }
    const at = (...names: string[]) => join(store.root, ...names);
    expect(asPlain(await view(at('copied/root')))).toEqual(asPlain(await view(at('linked/root'))));
    expect(statSync(at('linked/root/file')).ino).toBe(statSync(at('base/root/file')).ino);
    for (const name of ['file', 'dir/one']) {
      expect(statSync(at('copied/root', name)).ino).not.toBe(statSync(at('base/root', name)).ino);
    }
    expect(statSync(at('copied/root/new')).ino).not.toBe(statSync(at('copied/diff/new')).ino);
    expect(readFileSync(at('copied/root/file'), 'utf8')).toBe('from base');
  });

  it('says what failed, and leaves the layer as it was', async () => {
    const store = await opened(scratch, { driver: 'overlay' });
    scratch.file('base/file', 'from base');
    await store.create('base', { kind: 'image' });
    await store.apply('base', scratch.path('base'));
    await store.create('next', { kind: 'image', parent: 'base' });
    plan({ call: 'linkat', error: 'ENOSPC' });
    await expect(store.apply('next', scratch.directory('nothing'))).rejects.toMatchObject({
      code: 'ERR_OVERLAY_NO_SPACE',
    });
    clear();
    expect(await store.check()).toEqual([]);
    await store.apply('next', scratch.directory('nothing'));
    await using next = await store.mount('next');
    expect(readFileSync(next.path('file'), 'utf8')).toBe('from base');
  });
});
