// @module-tag vm
/** A store of layers in the layout of Docker's overlay2: what lies on disk, and what is mounted of it. */
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import {
  appendFileSync,
  chmodSync,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { changes, listOverlays, mountOverlay } from '../../lib/index.ts';
import { openStore } from '../../lib/store/index.ts';
import { umount } from '../support/commands.ts';
import { describePrivileged } from '../support/needs.ts';
import { afterThisTest, describeOn, scratchOn } from '../support/scratch.ts';
import { opened, threeLayers } from '../support/store.ts';

const modeOf = (path: string): string => (lstatSync(path).mode & 0o7777).toString(8);
const read = (...names: string[]): string => readFileSync(join(...names), 'utf8');

describeOn(['tmpfs', 'ext4'], 'an overlay2 store', (scratch) => {
  it('makes an empty directory its own', async () => {
    const store = await opened(scratch);
    expect(store).toMatchObject({ root: scratch.path('overlay2'), driver: 'overlay2', foreign: false });
    expect(modeOf(store.root)).toBe('710');
    expect(modeOf(`${store.root}/l`)).toBe('700');
    expect(modeOf(`${store.root}/.overlayfs`)).toBe('700');
    expect(await store.list()).toEqual([]);
  });

  it("has Docker's files, byte for byte, with Docker's modes", async () => {
    const store = await opened(scratch);
    process.umask(0o077);
    afterThisTest(() => process.umask(0o022));
    await store.create('base', { kind: 'image' });
    await store.create('next', { kind: 'image', parent: 'base' });
    await store.create('box', { kind: 'container', parent: 'next' });
    const [base, next, box] = ['base', 'next', 'box'].map((id) => join(store.root, id)) as [
      string,
      string,
      string,
    ];
    expect(readdirSync(base).sort()).toEqual(['committed', 'diff', 'link', 'overlayfs.json']);
    expect(readdirSync(box).sort()).toEqual(['diff', 'link', 'lower', 'overlayfs.json', 'work']);
    for (const [name, mode] of [
      ['', '710'],
      ['diff', '755'],
      ['link', '644'],
      ['committed', '600'],
    ] as const)
      expect([name, modeOf(join(base, name))]).toEqual([name, mode]);
    expect([modeOf(join(box, 'work')), modeOf(join(box, 'lower'))]).toEqual(['700', '644']);
    expect(statSync(join(base, 'committed')).size).toBe(0);
    const [first, second, third] = [base, next, box].map((path) => read(path, 'link'));
    for (const link of [first, second, third]) expect(link).toMatch(/^[A-Z2-7]{26}$/);
    expect(read(next, 'lower')).toBe(`l/${first}`);
    expect(read(box, 'lower')).toBe(`l/${second}:l/${first}`);
    expect(readdirSync(join(store.root, 'l')).sort()).toEqual([first, second, third].sort());
    expect(readlinkSync(join(store.root, 'l', third ?? ''))).toBe('../box/diff');
    expect(existsSync(join(box, 'committed'))).toBe(false);
  });

  it('knows parents, chains and kinds', async () => {
    const store = await opened(scratch);
    await threeLayers(store, scratch);
    expect(await store.chain('box')).toEqual(['box', 'next', 'base']);
    expect([await store.parent('next'), await store.parent('base')]).toEqual(['base', undefined]);
    expect(await store.get('nobody')).toBeUndefined();
    const layer = { own: true, readonly: true, kind: 'image' };
    const listed = [
      { ...layer, id: 'base', path: join(store.root, 'base') },
      {
        ...layer,
        id: 'box',
        path: join(store.root, 'box'),
        kind: 'container',
        readonly: false,
        parent: 'next',
      },
      { ...layer, id: 'next', path: join(store.root, 'next'), parent: 'base' },
    ];
    expect(await store.list()).toEqual(listed);
    expect(await store.get('box')).toEqual(listed[1]);
    const path = (id: string, name: string) => join(store.root, id, name);
    expect(await store.stack('box')).toEqual({
      lower: [path('next', 'diff'), path('base', 'diff')],
      upper: path('box', 'diff'),
      work: path('box', 'work'),
    });
    expect(await store.stack('next')).toEqual({ lower: [path('next', 'diff'), path('base', 'diff')] });
  });

  it('mounts a container at merged, mode 0700, and takes that away again', async () => {
    const store = await opened(scratch);
    await threeLayers(store, scratch);
    const merged = join(store.root, 'box', 'merged');
    {
      await using box = await store.mount('box');
      expect(box.target).toBe(merged);
      expect(readdirSync(merged).sort()).toEqual(['dir']);
      expect(readdirSync(join(merged, 'dir')).sort()).toEqual(['b', 'c']);
      appendFileSync(box.path('dir/b'), ', and changed');
      expect(box.plan.source).toBe('overlayfs'); // nobody's orphan
    }
    expect(existsSync(merged)).toBe(false);
    expect(read(store.root, 'box/diff/dir/b')).toBe('below, and changed');
    expect(read(store.root, 'base/diff/dir/b')).toBe('below');
  });

  it('makes merged with mode 0700', async () => {
    const store = await opened(scratch);
    await threeLayers(store, scratch);
    mkdirSync(join(store.root, 'box/merged'), 0o755); // stale, as a crash leaves it
    const box = await store.mount('box');
    umount(box.target ?? '');
    expect(modeOf(join(store.root, 'box/merged'))).toBe('700');
    await box.unmount();
  });

  it('mounts images read-only, one without a parent too', async () => {
    const store = await opened(scratch);
    await threeLayers(store, scratch);
    for (const id of ['base', 'next']) {
      await using image = await store.mount(id);
      expect(image.plan.upper).toBeUndefined();
      expect(() => writeFileSync(image.path('new'), '')).toThrow('EROFS');
    }
    await expect(store.mount('next', { readonly: false })).rejects.toMatchObject({
      code: 'ERR_OVERLAY_STORE_LAYER_READONLY',
    });
  });

  it('unmounts what another process has mounted, wherever it is', async () => {
    const store = await opened(scratch);
    await threeLayers(store, scratch);
    const box = await store.mount('box');
    const other = await opened(scratch);
    await other.unmount('box');
    expect(scratch.mounts()).toEqual([]);
    expect(existsSync(join(store.root, 'box/merged'))).toBe(false);
    await other.unmount('box'); // nothing is mounted: no error
    await box.unmount();
    const elsewhere = await store.mount('box', { target: scratch.directory('elsewhere') });
    await other.unmount('box');
    expect(scratch.mounts()).toEqual([]);
    await elsewhere.unmount();
  });

  it('makes an image of what a container holds, which stays as it was', async () => {
    const store = await opened(scratch);
    await threeLayers(store, scratch);
    {
      await using box = await store.mount('box');
      writeFileSync(box.path('new'), 'from the box');
      linkSync(box.path('new'), box.path('link'));
      symlinkSync('new', box.path('symlink'));
      rmSync(box.path('dir'), { recursive: true });
      mkdirSync(box.path('dir'), 0o711);
    }
    const committed = await store.commit('box', { id: 'committed' });
    expect(committed).toMatchObject({ id: 'committed', parent: 'next', kind: 'image', readonly: true });
    await using image = await store.mount('committed');
    expect(readdirSync(image.path()).sort()).toEqual(['dir', 'link', 'new', 'symlink']);
    expect([readdirSync(image.path('dir')), modeOf(image.path('dir'))]).toEqual([[], '711']);
    expect(statSync(image.path('link')).ino).toBe(statSync(image.path('new')).ino);
    await using box = await store.mount('box');
    expect(readdirSync(box.path()).sort()).toEqual(['dir', 'link', 'new', 'symlink']);
  });

  it('tells what a layer changes', async () => {
    const store = await opened(scratch);
    await threeLayers(store, scratch);
    const told = async (id: string) => {
      const all: string[] = [];
      await using stream = store.changes(id);
      for await (const { kind, path } of stream) all.push(`${kind} ${path}`);
      return all;
    };
    expect(await told('next')).toEqual(['deleted a', 'added dir/c']);
    expect((await told('base')).slice(-3)).toEqual(['added a', 'added dir', 'added dir/b']);
    {
      await using box = await store.mount('box');
      appendFileSync(box.path('dir/c'), '!');
    }
    expect(await told('box')).toEqual(['modified dir/c']);
  });

  it('takes changes for the content of a layer, as the kernel writes them', async () => {
    const store = await opened(scratch);
    await threeLayers(store, scratch);
    {
      await using box = await store.mount('box');
      rmSync(box.path('dir'), { recursive: true });
      writeFileSync(box.path('new'), 'new');
    }
    await store.create('third', { kind: 'image', parent: 'next' });
    await using ofBox = store.changes('box');
    await store.apply('third', ofBox);
    await using third = await store.mount('third');
    expect(readdirSync(third.path())).toEqual(['new']);
    expect(lstatSync(join(store.root, 'third/diff/dir')).isCharacterDevice()).toBe(true);
    await using plain = changes({ lower: scratch.directory('empty'), upper: scratch.path('base') });
    await store.create('other', { kind: 'image' });
    await store.apply('other', plain);
    expect(read(store.root, 'other/diff/dir/b')).toBe('below');
  });

  it('measures layers', async () => {
    const store = await opened(scratch);
    scratch.file('tree/file', 'x'.repeat(10_000));
    linkSync(scratch.path('tree/file'), scratch.path('tree/link'));
    scratch.directory('tree/dir');
    await store.create('base', { kind: 'image' });
    await store.apply('base', scratch.path('tree'));
    const usage = await store.usage('base');
    expect(usage).toMatchObject({ apparent: 10_000n, inodes: 3n });
    expect(usage.allocated).toBeGreaterThanOrEqual(10_000n);
    linkSync(join(store.root, 'base/diff/file'), scratch.path('outside'));
    const blocks = BigInt(statSync(scratch.path('outside')).blocks) * 512n;
    expect(await store.usage('base', { shared: true })).toEqual({
      ...usage,
      shared: { hardLinked: blocks, reflinked: 0n },
    });
  });

  it('removes layers, from the top', async () => {
    const store = await opened(scratch);
    await threeLayers(store, scratch);
    for (const id of ['base', 'next']) {
      await expect(store.remove(id)).rejects.toMatchObject({ code: 'ERR_OVERLAY_STORE_LAYER_HAS_CHILDREN' });
    }
    for (const id of ['box', 'next', 'base']) await store.remove(id);
    expect(readdirSync(store.root).sort()).toEqual(['.overlayfs', 'l']);
    expect(readdirSync(join(store.root, 'l'))).toEqual([]);
    expect(readdirSync(join(store.root, '.overlayfs/removed'))).toEqual([]);
  });

  it('removes nothing that is mounted, wherever', async () => {
    const store = await opened(scratch);
    await threeLayers(store, scratch);
    const inUse = { code: 'ERR_OVERLAY_STORE_LAYER_IN_USE' };
    await using _ = await store.mount('box');
    await expect(store.remove('box')).rejects.toMatchObject(inUse);
    await expect(store.mount('box')).rejects.toMatchObject(inUse);
    await expect(store.commit('box', { id: 'new' })).rejects.toMatchObject(inUse);
    await expect(store.create('child', { kind: 'image', parent: 'box' })).rejects.toMatchObject(inUse);
    await store.create('alone', { kind: 'image' });
    await using _elsewhere = await store.mount('alone', { target: scratch.directory('elsewhere') });
    await expect(store.remove('alone')).rejects.toMatchObject(inUse);
    await store.create('hidden', { kind: 'container', parent: 'next' });
    const { lower, upper, work } = await store.stack('hidden');
    await using _detached = await mountOverlay({ lower, upper, work } as Parameters<typeof mountOverlay>[0]);
    await expect(store.remove('hidden')).rejects.toMatchObject(inUse);
  });

  it('is found again by whoever opens it next', async () => {
    await using store = await openStore(scratch.path('overlay2'), { driver: 'overlay2', durability: 'none' });
    await threeLayers(store, scratch);
    const again = await opened(scratch, { readonly: true });
    expect(await again.list()).toEqual(await store.list());
    await expect(again.remove('box')).rejects.toMatchObject({ code: 'ERR_OVERLAY_STORE_READONLY' });
    expect(await listOverlays()).toEqual(
      expect.not.arrayContaining([expect.objectContaining({ owner: 'own' })]),
    );
  });

  it('warns of a chain that Docker would not mount, and refuses one that the kernel would not', {
    tags: ['slow'],
  }, async () => {
    const store = await opened(scratch);
    const warnings: string[] = [];
    const listen = (warning: Error & { code?: string }) => warnings.push(warning.code ?? '');
    process.on('warning', listen);
    afterThisTest(() => process.off('warning', listen));
    let parent = 'base';
    await store.create(parent, { kind: 'image' });
    for (let depth = 2; depth <= 500; depth++) {
      const id = `layer-${depth}`;
      await store.create(id, { kind: 'image', parent });
      parent = id;
      if (depth === 128) expect(warnings).toEqual([]);
    }
    await new Promise(setImmediate);
    expect(warnings).toEqual(['WARN_OVERLAY_MANY_LAYERS']);
    await expect(store.create('deeper', { kind: 'image', parent })).rejects.toMatchObject({
      code: 'ERR_OVERLAY_TOO_MANY_LOWERS',
    });
    await store.create('box', { kind: 'container', parent });
    await using box = await store.mount('box');
    writeFileSync(box.path('file'), 'on 500 layers');
    await using _image = await store.mount(parent);
    chmodSync(box.path('file'), 0o600);
  });
});

describePrivileged('what happens in a store', () => {
  const scratch = scratchOn('tmpfs');

  it('is published on overlayfs:store, failures too', async () => {
    const store = await opened(scratch);
    const events: unknown[] = [];
    const listen = (event: unknown) => events.push(event);
    subscribe('overlayfs:store', listen);
    afterThisTest(() => unsubscribe('overlayfs:store', listen));
    await store.create('base', { kind: 'image' });
    await store.remove('nobody').catch(() => {});
    await store.gc();
    const { root } = store;
    const duration = expect.any(Number);
    expect(events).toEqual([
      { root, operation: 'create', id: 'base', duration },
      {
        root,
        operation: 'remove',
        id: 'nobody',
        duration,
        error: expect.objectContaining({ code: 'ERR_OVERLAY_STORE_LAYER_NOT_FOUND' }),
      },
      { root, operation: 'gc', duration },
    ]);
  });

  it('is over when it has been closed, and what was under way is waited for', async () => {
    const store = await opened(scratch);
    const creating = store.create('base', { kind: 'image' });
    await store.close();
    await creating;
    await expect(store.get('base')).rejects.toMatchObject({ code: 'ERR_OVERLAY_STORE_CLOSED' });
    await store.close();
  });
});
