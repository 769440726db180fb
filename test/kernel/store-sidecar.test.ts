/** `overlayfs.json` that a power cut has emptied, or that is another layer's: the layer is not written to, and nothing goes with it. */
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import type { LayerStore, StoreDriver } from '../../lib/store/index.ts';
import { describePrivileged } from '../support/needs.ts';
import { expectRefusal } from '../support/refusal.ts';
import { scratchOn } from '../support/scratch.ts';
import { opened, threeLayers } from '../support/store.ts';

const damaged = 'ERR_OVERLAY_STORE_LAYER_DAMAGED';

describePrivileged('a layer whose overlayfs.json makes no sense', () => {
  const scratch = scratchOn('tmpfs');
  const threeIn = async (driver: StoreDriver): Promise<LayerStore> => {
    const store = await opened(scratch, { driver });
    await threeLayers(store, scratch);
    return store;
  };
  const sidecar = ({ root }: LayerStore, id: string) => join(root, id, 'overlayfs.json');

  it.each([
    ['overlay2', 'empty', () => ''],
    ['overlay2', "another layer's", (store: LayerStore) => readFileSync(sidecar(store, 'base'))],
    ['overlay', 'cut short', (store: LayerStore) => readFileSync(sidecar(store, 'next')).subarray(0, 20)],
  ] as const)('is told of by check(), and read-only: %s, %s', async (driver, _, content) => {
    const store = await threeIn(driver);
    await store.remove('box');
    rmSync(join(store.root, 'next/committed'), { force: true });
    const before = readFileSync(sidecar(store, 'next'));
    writeFileSync(sidecar(store, 'next'), content(store));
    expect(await store.check({ repair: true })).toMatchObject([
      { code: damaged, id: 'next', path: sidecar(store, 'next'), repairable: false, repaired: false },
    ]);
    expect((await store.list()).find(({ id }) => id === 'next')).toMatchObject({ readonly: true });
    await expect(store.mount('next', { readonly: false })).rejects.toMatchObject({
      code: 'ERR_OVERLAY_STORE_LAYER_READONLY',
    });
    if (driver === 'overlay2') {
      await using image = await store.mount('next');
      expect(() => writeFileSync(image.path('new'), '')).toThrow('EROFS');
    }
    await expectRefusal(scratch, damaged, () => store.apply('next', scratch.path('base')));
    await expectRefusal(scratch, damaged, () => store.create('kid', { kind: 'image', parent: 'next' }));
    writeFileSync(sidecar(store, 'next'), before);
    expect(await store.check({ repair: true })).toEqual([]);
    expect(await store.chain('next')).toEqual(['next', 'base']);
  });

  it('may lie on any other, where nothing else tells its parents: only it is removed', async () => {
    const store = await threeIn('overlay');
    await store.remove('box');
    for (const id of ['base', 'next']) expect(existsSync(sidecar(store, id))).toBe(true);
    writeFileSync(sidecar(store, 'next'), '');
    await expectRefusal(scratch, damaged, () => store.remove('base'));
    writeFileSync(sidecar(store, 'base'), '');
    await store.remove('next'); // although that of another is empty too
    await store.remove('base');
    expect(await store.list()).toEqual([]);
  });

  it.each(['overlay2', 'overlay'] as const)(
    'leaves the mark of what may be its parent: %s',
    async (driver) => {
      const store = await threeIn(driver);
      await store.create('kid', { kind: 'container', parent: 'box' });
      writeFileSync(sidecar(store, 'kid'), '');
      for (const name of ['lower', 'lower-id'])
        if (existsSync(join(store.root, 'kid', name))) writeFileSync(join(store.root, 'kid', name), '');
      await store.check({ repair: true });
      expect(readdirSync(join(store.root, 'box'))).toContain('committed');
      await expect(store.remove('box')).rejects.toMatchObject({ code: damaged });
    },
  );
});
