/** Whether a layer is mounted, and what that holds back: in this mount namespace, in another one, in a user namespace. */
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { expect, it, vi } from 'vitest';
import type { Overlay } from '../../lib/index.ts';
import { StoreDirectory } from '../../lib/store/directory.ts';
import type { LayerStore } from '../../lib/store/index.ts';
import { runChild, type Waiting, waitingShell } from '../support/child.ts';
import { describePrivileged } from '../support/needs.ts';
import { afterThisTest, scratchOn } from '../support/scratch.ts';
import { opened, threeLayers } from '../support/store.ts';

const inUse = { code: 'ERR_OVERLAY_STORE_LAYER_IN_USE' };
const options: Readonly<Record<string, string>> = {
  box: 'lowerdir=next/diff:base/diff,upperdir=box/diff,workdir=box/work',
  next: 'ro,lowerdir=next/diff:base/diff',
};

/** A mount namespace in which a layer is mounted where it belongs. */
const mountedElsewhere = ({ root }: LayerStore, id: string): Promise<Waiting> => {
  const inRoot = (options[id] ?? '').replace(/(=|:)(?=\w)/g, `$1${root}/`);
  const script = `mkdir -p '${root}/${id}/merged'; mount -t overlay overlay -o '${inRoot}' '${root}/${id}/merged'`;
  return waitingShell(script, ['unshare', '--mount', '--propagation', 'private']);
};

/** Whether it is mounted there still. */
const isMountedIn = ({ pid }: Waiting, { root }: LayerStore, id: string): boolean =>
  readFileSync(`/proc/${pid}/mountinfo`, 'utf8').includes(` ${root}/${id}/merged `);

describePrivileged('a layer of a store', () => {
  const scratch = scratchOn('tmpfs');
  const threeIn = async (): Promise<LayerStore> => {
    const store = await opened(scratch, { lockTimeout: 20_000 });
    await threeLayers(store, scratch);
    return store;
  };

  it.each(['box', 'next'])(
    'that is mounted in another mount namespace stays mounted there, whatever is done here: %s',
    async (id) => {
      const store = await threeIn();
      {
        await using elsewhere = await mountedElsewhere(store, id);
        await expect(store.mount(id)).rejects.toMatchObject(inUse);
        expect(isMountedIn(elsewhere, store, id)).toBe(true);
        await store.unmount(id); // of this namespace: nothing
        expect(isMountedIn(elsewhere, store, id)).toBe(true);
        expect(await store.check({ repair: true })).toEqual([]);
        expect(isMountedIn(elsewhere, store, id)).toBe(true);
        if (id === 'next') await store.remove('box');
        await expect(store.remove(id)).rejects.toMatchObject(inUse);
        expect(isMountedIn(elsewhere, store, id)).toBe(true);
      }
      // Its mount went with that namespace.
      expect(await store.check({ repair: true })).toMatchObject([{ id, repaired: true }]);
      await using _ = await store.mount(id);
    },
  );

  it('is not removed while a store that is only read shows it', async () => {
    const store = await threeIn();
    const reading = await opened(scratch, { readonly: true });
    scratch.file('overlay2/box/diff/precious', 'data');
    {
      await using view = await reading.mount('box', { target: scratch.directory('view') });
      expect(view.plan.upper).toBeUndefined();
      await expect(store.remove('box')).rejects.toMatchObject(inUse);
      expect(readFileSync(view.path('precious'), 'utf8')).toBe('data');
    }
    await store.remove('box');
  });

  it('is mounted once at merged, whoever comes at the same time', async () => {
    const store = await threeIn();
    for (const id of ['next', 'box']) {
      const attempts = await Promise.allSettled(Array.from({ length: 8 }, () => store.mount(id)));
      const mounted = attempts.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []));
      expect(scratch.mounts()).toEqual([join(store.root, id, 'merged')]);
      expect(mounted).toHaveLength(1);
      for (const one of attempts) if (one.status === 'rejected') expect(one.reason).toMatchObject(inUse);
      await mounted[0]?.unmount();
    }
  });

  it('is held until all of it has been copied, whoever removes it meanwhile', async () => {
    const store = await opened(scratch, { lockTimeout: 20_000 });
    await threeLayers(store, scratch);
    const files = 4000;
    for (let i = 0; i < files; i++) scratch.file(`overlay2/box/diff/file${i}`);
    const committing = store.commit('box', { id: 'new' });
    while (readdirSync(join(store.root, '.overlayfs/new')).length === 0) await setImmediate();
    await Promise.all([committing, store.remove('box')]);
    expect(readdirSync(join(store.root, 'new/diff'))).toHaveLength(files);
  });

  it('is unmounted at merged and wherever else it is mounted', async () => {
    const store = await threeIn();
    const mounts: Overlay[] = [
      await store.mount('next'),
      await store.mount('next', { target: scratch.directory('one') }),
      await store.mount('next', { target: scratch.directory('other') }),
    ];
    await using box = await store.mount('box');
    await store.unmount('next');
    expect(scratch.mounts()).toEqual([box.target]);
    expect(existsSync(join(store.root, 'next/merged'))).toBe(false);
    for (const overlay of mounts) await overlay.unmount();
  });

  it.each(['work/work/#1', 'merged'])(
    'that is mounted while a store is being mended keeps what its mount needs: %s',
    async (left) => {
      const store = await threeIn();
      mkdirSync(join(store.root, 'box', left), { recursive: true });
      // Between the look and the mending.
      const { tryLock } = StoreDirectory.prototype;
      let elsewhere: Waiting | undefined;
      const spy = vi.spyOn(StoreDirectory.prototype, 'tryLock').mockImplementation(async function (
        this: StoreDirectory,
        path,
      ) {
        if (path === 'box') elsewhere ??= await mountedElsewhere(store, 'box');
        return tryLock.call(this, path);
      });
      afterThisTest(() => spy.mockRestore());
      afterThisTest(() => elsewhere?.[Symbol.asyncDispose]());
      const [found] = await store.check({ repair: true });
      expect(found?.repaired ?? false).toBe(false);
      expect(isMountedIn(elsewhere as unknown as Waiting, store, 'box')).toBe(true);
      expect(existsSync(join(store.root, 'box/work/work'))).toBe(true);
    },
  );

  it('is known to be mounted in a user namespace too, where the kernel has no mark to ask for', async () => {
    const told = await runChild<Record<string, unknown>>(
      `const { openStore } = await import(new URL('store/index.ts', ${JSON.stringify(new URL('../../lib/', import.meta.url))}));
       const [root, target] = process.argv.slice(-2);
       const code = (attempt) => attempt.then(() => 'done', (error) => error.code);
       const store = await openStore(root, { driver: 'overlay2', durability: 'none' });
       await store.create('base', { kind: 'image' });
       await store.create('box', { kind: 'container', parent: 'base' });
       const box = await store.mount('box', { target });
       report({
         child: await code(store.create('child', { kind: 'image', parent: 'box' })),
         commit: await code(store.commit('box', { id: 'image' })),
         remove: await code(store.remove('box')),
         unmounted: await code(box.unmount()),
         detached: await (async () => {
           const { lower, upper, work } = await store.stack('box');
           const hidden = await overlayfs.mountOverlay({ lower, upper, work, userxattr: true });
           const told = await code(store.remove('box'));
           await hidden.unmount();
           return told;
         })(),
         removed: await code(store.remove('box')),
       });`,
      {
        through: [
          'unshare',
          '--user',
          '--map-root-user',
          '--mount',
          'sh',
          '-c',
          `mount -t tmpfs -o mode=755 tmpfs '${scratch.directory('inside')}'; mkdir '${scratch.path('inside/target')}'; exec "$@"`,
          'sh',
        ],
        args: [scratch.path('inside/overlay2'), scratch.path('inside/target')],
      },
    );
    const { code } = inUse;
    expect(told).toEqual({
      child: code,
      commit: code,
      remove: code,
      unmounted: 'done',
      detached: code,
      removed: 'done',
    });
  });

  it('keeps what somebody has put into a merged of no mount', async () => {
    const store = await threeIn();
    mkdirSync(join(store.root, 'box/merged'));
    writeFileSync(join(store.root, 'box/merged/note'), '');
    await using _ = await store.mount('box');
    await store.unmount('box');
    expect(readdirSync(join(store.root, 'box/merged'))).toEqual(['note']);
  });
});
