/** Symbolic links in a store where its own directories and files should be: nothing outside is read for a layer's content. */
import { readdirSync, renameSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import type { LayerStore } from '../../lib/store/index.ts';
import { describePrivileged } from '../support/needs.ts';
import { expectRefusal } from '../support/refusal.ts';
import { scratchOn } from '../support/scratch.ts';
import { opened, threeLayers } from '../support/store.ts';

const damaged = 'ERR_OVERLAY_STORE_LAYER_DAMAGED';

describePrivileged('a symbolic link in a store', () => {
  const scratch = scratchOn('tmpfs');
  const plant = ({ root }: LayerStore, name: string, target: string) => {
    renameSync(join(root, name), join(root, '.overlayfs/aside'));
    symlinkSync(target, join(root, name));
  };
  const told = async (store: LayerStore, id: string) => {
    await using stream = store.changes(id);
    for await (const _ of stream);
  };

  it.each(['box/diff', 'next/diff'])('is not followed for the content of a layer: %s', async (planted) => {
    const store = await opened(scratch);
    await threeLayers(store, scratch);
    await store.create('empty', { kind: 'image', parent: 'next' });
    scratch.file('outside/secret');
    plant(store, planted, scratch.path('outside'));
    const [id = ''] = planted.split('/');
    await expectRefusal(scratch, damaged, () => told(store, id));
    await expectRefusal(scratch, damaged, () => store.stack(id));
    await expectRefusal(scratch, damaged, () => store.mount(id));
    if (id === 'box') {
      await expectRefusal(scratch, damaged, () => store.commit('box', { id: 'stolen' }));
    } else {
      await expectRefusal(scratch, damaged, () => told(store, 'box'));
      await expectRefusal(scratch, damaged, () => store.apply('empty', []));
    }
    expect((await store.list()).map((layer) => layer.id)).toEqual(['base', 'box', 'empty', 'next']);
  });

  it("is not followed for a container's first content, nor for the tree of an image, by the legacy driver", async () => {
    const store = await opened(scratch, { driver: 'overlay' });
    await threeLayers(store, scratch);
    await store.create('empty', { kind: 'image', parent: 'next' });
    scratch.file('outside/secret');
    plant(store, 'box/upper', scratch.path('outside'));
    await expectRefusal(scratch, damaged, () => store.create('kid', { kind: 'container', parent: 'box' }));
    await expectRefusal(scratch, damaged, () => store.commit('box', { id: 'stolen' }));
    await expectRefusal(scratch, damaged, () => told(store, 'box'));
    renameSync(join(store.root, '.overlayfs/aside'), join(store.root, '.overlayfs/other'));
    plant(store, 'next/root', scratch.path('outside'));
    await expectRefusal(scratch, damaged, () => store.apply('empty', scratch.path('base')));
    expect(readdirSync(join(store.root, 'empty')).sort()).toContain('upper');
  });

  it('is not followed for the list of parents', async () => {
    const store = await opened(scratch);
    await threeLayers(store, scratch);
    plant(store, 'box/lower', join(store.root, '.overlayfs/aside')); // which says what `lower` said
    await expectRefusal(scratch, damaged, () => store.chain('box'));
    await expectRefusal(scratch, damaged, () => store.mount('box'));
    expect(await store.check()).toMatchObject([{ code: damaged, id: 'box' }]);
  });
});
