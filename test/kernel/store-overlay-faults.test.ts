/** Trees of the legacy overlay where files cannot be linked: they are copied, and look the same. */
import { chmodSync, linkSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { OverlayError } from '../../lib/index.ts';
import { type LayerStore, openStore } from '../../lib/store/index.ts';
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

  const calls = ['openat2', 'mkdirat', 'linkat', 'renameat2', 'unlinkat', 'fsync', 'fchmod', 'utimensat'];
  const filling: Readonly<Record<string, (store: LayerStore) => Promise<unknown>>> = {
    filling: (store) => store.apply('next', scratch.path('content')),
    committing: (store) => store.commit('box', { id: 'new' }),
  };
  const cases = Object.keys(filling).flatMap((how) => calls.map((call) => [how, call] as const));

  it.each(cases)(
    'an image layer is whole or not there after %s with a failing %s, whichever',
    async (how, call) => {
      // A call that is done without must not end the search for more.
      for (let skip = 0, doneInARow = 0; doneInARow < 2; skip++) {
        const root = scratch.directory(`store-${skip}`);
        chmodSync(root, 0o710);
        await using store = await openStore(root, { driver: 'overlay', durability: 'metadata' });
        scratch.file('content/new', 'of the content');
        scratch.file('base/old', 'of the base');
        await store.create('base', { kind: 'image' });
        await store.apply('base', scratch.path('base'));
        await store.create('next', { kind: 'image', parent: 'base' });
        await store.create('box', { kind: 'container', parent: 'base' });
        scratch.file(`store-${skip}/box/upper/new`, 'of the box');
        plan({ call, error: 'EIO', skip, times: 1 });
        const failed = await (filling[how] as (store: LayerStore) => Promise<unknown>)(store).then(
          () => false,
          (error: unknown) => {
            if (error instanceof OverlayError) return true;
            throw error;
          },
        );
        doneInARow = failed ? 0 : doneInARow + 1;
        clear();
        await store.check({ repair: true });
        expect(await store.check()).toEqual([]);
        const made = how === 'filling' ? 'next' : 'new';
        if ((await store.get(made)) === undefined) {
          expect([how, failed]).toEqual(['committing', true]);
          continue;
        }
        await using image = await store.mount(made);
        const names = readdirSync(image.path());
        if (!failed || how === 'committing') expect(names.sort()).toEqual(['new', 'old']);
        // Whole or not at all.
        expect(readFileSync(image.path('old'), 'utf8')).toBe('of the base');
        if (names.includes('new')) expect(readFileSync(image.path('new'), 'utf8')).toMatch(/^of the /);
      }
    },
  );

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
