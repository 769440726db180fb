/** Every system call that changes a store, failing: the call says so, and nothing that had been acknowledged is lost. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { OverlayError } from '../../lib/index.ts';
import { type LayerStore, openStore } from '../../lib/store/index.ts';
import { clear, type Fault, plan } from '../support/faults.ts';
import { describePrivileged } from '../support/needs.ts';
import { type Scratch, scratchOn } from '../support/scratch.ts';

/** Calls by their names in native/core/sys.cc, each failing once, or from then on as on a full disk. */
const faults: readonly Omit<Fault, 'skip'>[] = [
  ...['openat', 'openat2', 'mkdirat', 'write', 'fsync', 'syncfs', 'symlinkat', 'renameat2', 'unlinkat'].map(
    (call) => ({ call, error: 'EIO', times: 1 }) as const,
  ),
  { call: 'flock', error: 'EINTR', times: 1 },
  ...['mkdirat', 'write', 'symlinkat'].map((call) => ({ call, error: 'ENOSPC', times: -1 }) as const),
];

/** What is done to a store that has `base` (an image with a file), `box` (a container on it, with another) and `empty`. */
const operations: Readonly<Record<string, (store: LayerStore, scratch: Scratch) => Promise<unknown>>> = {
  'creating an image': (store) => store.create('new', { kind: 'image' }),
  'creating a container': (store) => store.create('new', { kind: 'container', parent: 'base' }),
  'filling a layer': (store, { path }) => store.apply('empty', path('content')),
  'committing a container': (store) => store.commit('box', { id: 'new' }),
  'removing a layer': (store) => store.remove('box'),
};

/** A call that is done without must not end the search for more. */
const DONE_IN_A_ROW = 2;

describePrivileged('a store in which a system call fails', () => {
  const scratch = scratchOn('tmpfs');

  async function prepared(name: string): Promise<LayerStore> {
    const store = await openStore(scratch.path(name), { driver: 'overlay2', lockTimeout: 0 });
    scratch.file('content/file', 'content');
    await store.create('base', { kind: 'image' });
    await store.apply('base', scratch.path('content'));
    await store.create('box', { kind: 'container', parent: 'base' });
    scratch.file(`${name}/box/diff/own`, 'of the box');
    await store.create('empty', { kind: 'image' });
    return store;
  }

  async function expectWhole(store: LayerStore, operation: string, done: boolean): Promise<void> {
    await store.check({ repair: true });
    expect(await store.check()).toEqual([]);
    const ids = (await store.list()).map(({ id }) => id);
    const inLayer = (...names: string[]) => join(store.root, ...names);
    const may = operation === 'removing a layer' ? 'box' : /^(creat|commit)/.test(operation) ? 'new' : '';
    expect(ids.filter((id) => id !== may)).toEqual(['base', 'box', 'empty'].filter((id) => id !== may));
    if (done && may !== '') expect(ids.includes(may)).toBe(may === 'new');
    expect(readFileSync(inLayer('base/diff/file'), 'utf8')).toBe('content');
    // Whole or not at all.
    const filled = readdirSync(inLayer('empty/diff'));
    if (done && operation === 'filling a layer') expect(filled).toEqual(['file']);
    if (filled.length > 0) expect(readFileSync(inLayer('empty/diff/file'), 'utf8')).toBe('content');
    if (operation.startsWith('commit') && ids.includes('new'))
      expect(readFileSync(inLayer('new/diff/own'), 'utf8')).toBe('of the box');
    if (!ids.includes('box')) return;
    await using box = await store.mount('box');
    expect(readdirSync(box.path()).sort()).toEqual(['file', 'own']);
  }

  const cases = Object.entries(operations).flatMap(([operation, run]) =>
    faults.map((fault) => [operation, `${fault.error} of ${fault.call}`, fault, run] as const),
  );

  it.each(cases)('is whole after %s with %s, whichever time', async (operation, _, fault, run) => {
    for (let skip = 0, doneInARow = 0; doneInARow < DONE_IN_A_ROW; skip++) {
      await using store = await prepared(`store-${skip}`);
      plan({ ...fault, skip });
      const outcome = await run(store, scratch).then(
        () => undefined,
        (reason: unknown) => reason,
      );
      clear();
      doneInARow = outcome === undefined ? doneInARow + 1 : 0;
      if (outcome !== undefined && !(outcome instanceof OverlayError)) throw outcome;
      await expectWhole(store, operation, outcome === undefined);
    }
  });

  it('says what failed, and that the disk is full', async () => {
    await using store = await prepared('store');
    plan({ call: 'symlinkat', error: 'EIO' });
    await expect(store.create('new', { kind: 'image' })).rejects.toMatchObject({
      code: 'ERR_OVERLAY_STORE_FAILED',
      syscall: 'symlinkat',
      errno: -5,
    });
    clear();
    plan({ call: 'write', error: 'ENOSPC' });
    await expect(store.create('new', { kind: 'image' })).rejects.toMatchObject({
      code: 'ERR_OVERLAY_NO_SPACE',
    });
    clear();
    expect(readdirSync(join(store.root, '.overlayfs/new'))).toEqual([]);
    expect(readdirSync(join(store.root, 'l'))).toHaveLength(3);
    plan({ call: 'flock', error: 'EWOULDBLOCK' });
    await expect(store.create('new', { kind: 'image' })).rejects.toMatchObject({
      code: 'ERR_OVERLAY_STORE_LOCKED',
    });
  });

  it('leaves no half-made root behind that the next one could not make a store of', async () => {
    for (const call of ['mkdirat', 'openat', 'write', 'fsync', 'renameat2'] as const) {
      for (let skip = 0; ; skip++) {
        const root = scratch.path(`${call}-${skip}`);
        plan({ call, error: 'EIO', skip, times: 1 });
        const outcome = await openStore(root, { driver: 'overlay2' }).then(
          (store) => store.close(),
          (reason: unknown) => reason,
        );
        clear();
        await using store = await openStore(root, { driver: 'overlay2' });
        await store.create('base', { kind: 'image' });
        expect(await store.check()).toEqual([]);
        if (outcome === undefined) break;
      }
    }
  });
});
