// @module-tag vm
/** A store of layers in the layout of Docker's legacy overlay: what lies on disk, and what is mounted of it. */
import { execFileSync } from 'node:child_process';
import {
  appendFileSync,
  chmodSync,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, it } from 'vitest';
import type { LayerStore } from '../../lib/store/index.ts';
import { afterThisTest, describeOn, type Scratch } from '../support/scratch.ts';
import { opened, threeLayers } from '../support/store.ts';
import { readTree } from '../support/view.ts';
import { setXattr } from '../support/xattr.ts';

const modeOf = (path: string): string => (lstatSync(path).mode & 0o7777).toString(8);
const openedLegacy = (scratch: Scratch) => opened(scratch, { driver: 'overlay' });
const told = async (store: LayerStore, id: string): Promise<string[]> => {
  const all: string[] = [];
  await using stream = store.changes(id);
  for await (const { kind, path } of stream) all.push(`${kind} ${path}`);
  return all;
};

const replaceByLink = (path: string): void => {
  rmSync(path);
  symlinkSync('/etc/passwd', path);
};

describeOn(['tmpfs', 'ext4'], 'a store for the legacy overlay', (scratch) => {
  it("has Docker's files, byte for byte, with Docker's modes", async () => {
    const store = await openedLegacy(scratch);
    process.umask(0o077);
    afterThisTest(() => process.umask(0o022));
    await threeLayers(store, scratch);
    const at = (...names: string[]) => join(store.root, ...names);
    expect(readdirSync(store.root).sort()).toEqual(['.overlayfs', 'base', 'box', 'next']);
    expect(readdirSync(at('base')).sort()).toEqual(['committed', 'overlayfs.json', 'root']);
    expect(readdirSync(at('next')).sort()).toEqual(['committed', 'diff', 'overlayfs.json', 'root']);
    expect(readdirSync(at('box')).sort()).toEqual(['lower-id', 'overlayfs.json', 'upper', 'work']);
    for (const [path, mode] of [
      ['base', '710'],
      ['box/upper', modeOf(at('next/root'))],
      ['box/work', '700'],
      ['box/lower-id', '600'],
    ] as const)
      expect([path, modeOf(at(path))]).toEqual([path, mode]);
    expect(readFileSync(at('box/lower-id'), 'utf8')).toBe('next');
    expect(existsSync(at('box/committed'))).toBe(false);
  });

  it('an upper has the mode of what it lies on', async () => {
    const store = await openedLegacy(scratch);
    scratch.file('base/file');
    chmodSync(scratch.path('base'), 0o1777);
    await store.create('base', { kind: 'image' });
    await store.apply('base', scratch.path('base'));
    await store.create('init', { kind: 'container', parent: 'base' });
    await store.create('box', { kind: 'container', parent: 'init' });
    expect([modeOf(join(store.root, 'init/upper')), modeOf(join(store.root, 'box/upper'))]).toEqual([
      '1777',
      '1777',
    ]);
    await using box = await store.mount('box');
    expect(modeOf(box.path())).toBe('1777');
  });

  it('a layer that is made while its parent is being filled lies on what that shows then', async () => {
    const store = await opened(scratch, { driver: 'overlay', lockTimeout: 10_000 });
    scratch.file('base/old');
    scratch.file('next/new');
    await store.create('base', { kind: 'image' });
    await store.apply('base', scratch.path('base'));
    const shown: string[] = [];
    for (let turn = 0; turn < 24; turn++) {
      const [image, box] = [`image-${turn}`, `box-${turn}`];
      await store.create(image, { kind: 'image', parent: 'base' });
      const filling = store.apply(image, scratch.path('next'));
      await sleep((turn % 12) / 2);
      // Whoever comes first: a layer that something lies on is not filled any more.
      const [filled] = await Promise.allSettled([
        filling,
        store.create(box, { kind: 'container', parent: image }),
      ]);
      await using mounted = await store.mount(box);
      const names = readdirSync(mounted.path()).sort().join();
      expect(names).toBe(filled.status === 'fulfilled' ? 'new,old' : 'old');
      shown.push(names);
    }
    expect(shown).toContain('new,old');
    expect(await store.check()).toEqual([]);
  });

  it('a tree is filled from the moment that it is there, whether that has been noted or not', async () => {
    const store = await openedLegacy(scratch);
    await threeLayers(store, scratch);
    const at = (...names: string[]) => join(store.root, ...names);
    await store.create('top', { kind: 'image', parent: 'base' });
    const empty = readFileSync(at('top/overlayfs.json'));
    await store.apply('top', scratch.path('next'));
    writeFileSync(at('top/overlayfs.json'), empty);
    const before = readdirSync(at('top/root'));
    await expect(store.apply('top', scratch.path('base'))).rejects.toMatchObject({
      code: 'ERR_OVERLAY_STORE_LAYER_READONLY',
    });
    expect(readdirSync(at('top/root'))).toEqual(before);
    const found = { path: at('top/overlayfs.json'), severity: 'warning' };
    expect(await store.check()).toMatchObject([found]);
    expect(await store.check({ repair: true })).toMatchObject([{ ...found, repaired: true }]);
    expect(JSON.parse(readFileSync(at('top/overlayfs.json'), 'utf8'))).toMatchObject({ state: 'filled' });
    expect(await store.check()).toEqual([]);
  });

  it('an image layer is a whole tree, linked to its parent where nothing has changed', async () => {
    const store = await openedLegacy(scratch);
    await threeLayers(store, scratch);
    const at = (...names: string[]) => join(store.root, ...names);
    expect(readdirSync(at('next/root'))).toEqual(['dir']);
    expect(readdirSync(at('next/root/dir'))).toEqual(['b', 'c']);
    expect(statSync(at('next/root/dir/b')).ino).toBe(statSync(at('base/root/dir/b')).ino);
    expect(statSync(at('next/root/dir')).ino).not.toBe(statSync(at('base/root/dir')).ino);
    expect(readdirSync(at('base/root'))).toEqual(['a', 'dir']);
  });

  it('changes of a file are never changes of the inode that other layers have', async () => {
    const store = await openedLegacy(scratch);
    for (const name of ['written', 'moded', 'timed', 'marked']) scratch.file(`base/${name}`, 'from base');
    await store.create('base', { kind: 'image' });
    await store.apply('base', scratch.path('base'));
    await store.create('box', { kind: 'container', parent: 'base' });
    const before = await readTree({ path: join(store.root, 'base/root') });
    {
      await using box = await store.mount('box');
      appendFileSync(box.path('written'), '!');
      chmodSync(box.path('moded'), 0o600);
      utimesSync(box.path('timed'), 1, 1);
      setXattr(box.path('marked'), 'trusted.mark', 'x');
    }
    await store.commit('box', { id: 'next' });
    expect(await readTree({ path: join(store.root, 'base/root') })).toEqual(before);
    await using next = await store.mount('next');
    expect(readFileSync(next.path('written'), 'utf8')).toBe('from base!');
    expect([modeOf(next.path('moded')), statSync(next.path('timed')).mtimeMs]).toEqual(['600', 1000]);
  });

  it('mounts a container over the one tree, and images read-only', async () => {
    const store = await openedLegacy(scratch);
    await threeLayers(store, scratch);
    const at = (...names: string[]) => join(store.root, ...names);
    {
      await using box = await store.mount('box');
      expect(box.plan).toMatchObject({
        lower: [at('next/root')],
        upper: at('box/upper'),
        work: at('box/work'),
      });
      expect(readdirSync(box.path('dir'))).toEqual(['b', 'c']);
      await expect(store.remove('box')).rejects.toMatchObject({ code: 'ERR_OVERLAY_STORE_LAYER_IN_USE' });
    }
    await using next = await store.mount('next');
    expect(() => writeFileSync(next.path('new'), '')).toThrow('EROFS');
    await expect(store.remove('box')).resolves.toBeUndefined();
    await expect(store.remove('next')).rejects.toMatchObject({ code: 'ERR_OVERLAY_STORE_LAYER_IN_USE' });
  });

  it('a container on a container begins with what that holds, whiteouts and opaque marks too', async () => {
    const store = await openedLegacy(scratch);
    await threeLayers(store, scratch);
    await store.create('init', { kind: 'container', parent: 'next' });
    {
      await using init = await store.mount('init');
      rmSync(init.path('dir/b'));
      writeFileSync(init.path('hosts'), '');
      mkdirSync(init.path('made'));
    }
    await store.create('on-init', { kind: 'container', parent: 'init' });
    const upper = join(store.root, 'on-init/upper');
    expect(readFileSync(join(store.root, 'on-init/lower-id'), 'utf8')).toBe('next');
    expect(readdirSync(upper)).toEqual(['dir', 'hosts', 'made']);
    expect(lstatSync(join(upper, 'dir/b')).isCharacterDevice()).toBe(true);
    await expect(store.mount('init', { readonly: false })).rejects.toMatchObject({
      code: 'ERR_OVERLAY_STORE_LAYER_READONLY',
    });
    {
      await using box = await store.mount('on-init');
      expect(readdirSync(box.path()).sort()).toEqual(['dir', 'hosts', 'made']);
      writeFileSync(box.path('hosts'), 'localhost');
    }
    expect(await store.chain('on-init')).toEqual(['on-init', 'init', 'next', 'base']);
    expect(await told(store, 'on-init')).toEqual(['modified hosts']);
    await store.commit('on-init', { id: 'committed' });
    await using image = await store.mount('committed');
    expect(readdirSync(image.path()).sort()).toEqual(['dir', 'hosts', 'made']);
    expect(readdirSync(image.path('dir'))).toEqual(['c']);
    expect(await store.check()).toEqual([]);
  });

  it('an image that nobody has filled shows what its parent shows, and can be filled', async () => {
    const store = await openedLegacy(scratch);
    await threeLayers(store, scratch);
    await store.create('init', { kind: 'container', parent: 'next' });
    {
      await using init = await store.mount('init');
      writeFileSync(init.path('hosts'), '');
    }
    await store.create('empty', { kind: 'image', parent: 'init' });
    {
      await using empty = await store.mount('empty');
      expect(readdirSync(empty.path()).sort()).toEqual(['dir', 'hosts']);
      expect(empty.plan.upper).toBeUndefined();
    }
    await store.apply('empty', scratch.path('base'));
    {
      await using filled = await store.mount('empty');
      expect(readdirSync(filled.path()).sort()).toEqual(['a', 'dir', 'hosts']);
    }
    expect(readdirSync(join(store.root, 'empty')).sort()).toEqual(['diff', 'overlayfs.json', 'root']);
    await expect(store.apply('empty', scratch.path('base'))).rejects.toMatchObject({
      code: 'ERR_OVERLAY_STORE_LAYER_READONLY',
    });
  });

  it('tells what layers change, and takes changes for content', async () => {
    const store = await openedLegacy(scratch);
    await threeLayers(store, scratch);
    expect(await told(store, 'next')).toEqual(['deleted a', 'added dir/c']);
    expect((await told(store, 'base')).slice(-3)).toEqual(['added a', 'added dir', 'added dir/b']);
    {
      await using box = await store.mount('box');
      appendFileSync(box.path('dir/c'), '!');
      rmSync(box.path('dir/b'));
    }
    expect(await told(store, 'box')).toEqual(['deleted dir/b', 'modified dir/c']);
    await store.create('third', { kind: 'image', parent: 'next' });
    await using ofBox = store.changes('box');
    await store.apply('third', ofBox);
    expect(await told(store, 'third')).toEqual(['deleted dir/b', 'modified dir/c']);
    await using third = await store.mount('third');
    expect(readFileSync(third.path('dir/c'), 'utf8')).toBe('above!');
  });

  it('measures what a layer takes beside what its parents hold', async () => {
    const store = await openedLegacy(scratch);
    scratch.file('base/large', 'x'.repeat(100_000));
    scratch.directory('base/dir');
    scratch.file('next/file', 'x'.repeat(10_000));
    linkSync(scratch.path('next/file'), scratch.path('next/link'));
    for (const [id, parent] of [
      ['base', {}],
      ['next', { parent: 'base' }],
    ] as const) {
      await store.create(id, { kind: 'image', ...parent });
      await store.apply(id, scratch.path(id));
    }
    expect(await store.usage('base')).toMatchObject({ apparent: 100_000n, inodes: 3n });
    // The directories of both trees, and the file.
    const usage = await store.usage('next', { shared: true });
    expect(usage).toMatchObject({ apparent: 10_000n, inodes: 4n, shared: { hardLinked: 0n } });
    await store.create('third', { kind: 'image', parent: 'next' });
    await store.apply('third', scratch.directory('nothing'));
    const { shared } = await store.usage('next', { shared: true });
    expect(shared?.hardLinked).toBe(BigInt(statSync(join(store.root, 'next/diff/file')).blocks) * 512n);
    expect((await store.usage('third')).apparent).toBe(0n);
  });

  it('finds and mends what can be wrong', async () => {
    const store = await openedLegacy(scratch);
    await threeLayers(store, scratch);
    const at = (...names: string[]) => join(store.root, ...names);
    expect(await store.check()).toEqual([]);
    const damages: readonly (readonly [string, () => unknown])[] = [
      ['box/lower-id', () => writeFileSync(at('box/lower-id'), '')],
      ['box/lower-id', () => writeFileSync(at('box/lower-id'), '../next')],
      ['box/lower-id', () => writeFileSync(at('box/lower-id'), 'box')],
      ['box/lower-id', () => replaceByLink(at('box/lower-id'))],
      ['box/work', () => rmSync(at('box/work'), { recursive: true })],
      ['box/diff', () => mkdirSync(at('box/diff'))],
      ['next/upper', () => mkdirSync(at('next/upper/inside'), { recursive: true })],
      ['next/lower-id', () => writeFileSync(at('next/lower-id'), 'base')],
      ['next/committed', () => rmSync(at('next/committed'))],
    ];
    for (const [path, damage] of damages) {
      damage();
      expect([path, (await store.check()).map((one) => one.path)]).toEqual([path, [at(path)]]);
      await store.check({ repair: true });
      expect([path, await store.check()]).toEqual([path, []]);
    }
    await using box = await store.mount('box');
    expect(readdirSync(box.path())).toEqual(['dir']);
  });

  it('refuses to mount what does not say what it lies on', async () => {
    const store = await openedLegacy(scratch);
    await threeLayers(store, scratch);
    const damaged = { code: 'ERR_OVERLAY_STORE_LAYER_DAMAGED' };
    for (const text of ['', '../../etc', 'a/b']) {
      writeFileSync(join(store.root, 'box/lower-id'), text);
      await expect(store.mount('box')).rejects.toMatchObject(damaged);
      await expect(store.stack('box')).rejects.toMatchObject(damaged);
    }
    writeFileSync(join(store.root, 'box/lower-id'), 'next');
    rmSync(join(store.root, 'next/root'), { recursive: true });
    symlinkSync('/etc', join(store.root, 'next/root'));
    await expect(store.mount('box')).rejects.toMatchObject(damaged);
  });

  it('reads a store that another program has made, and nothing else', async () => {
    const root = scratch.directory('overlay2');
    chmodSync(root, 0o710);
    scratch.file('overlay2/image/root/etc/hosts', 'localhost');
    scratch.file('overlay2/c0-init/upper/init');
    scratch.file('overlay2/c0-init/lower-id', 'image');
    scratch.directory('overlay2/c0-init/work');
    // As Docker's daemon does: what a container begins with is told by the name alone.
    execFileSync('cp', ['-a', scratch.path('overlay2/c0-init'), scratch.path('overlay2/c0')]);
    scratch.file('overlay2/c0/upper/own');
    const store = await openedLegacy(scratch);
    expect(store).toMatchObject({ driver: 'overlay', foreign: true, readonly: true });
    expect((await store.list()).map(({ id, parent, kind }) => [id, parent, kind])).toEqual([
      ['c0', 'c0-init', 'container'],
      ['c0-init', 'image', 'container'],
      ['image', undefined, 'image'],
    ]);
    expect(await store.chain('c0')).toEqual(['c0', 'c0-init', 'image']);
    expect(await told(store, 'c0')).toEqual(['added own']);
    expect(await told(store, 'c0-init')).toEqual(['added init']);
    expect(await store.stack('c0')).toEqual({
      lower: [join(root, 'image/root')],
      upper: join(root, 'c0/upper'),
      work: join(root, 'c0/work'),
    });
    await expect(store.remove('c0')).rejects.toMatchObject({ code: 'ERR_OVERLAY_STORE_READONLY' });
    await expect(opened(scratch, { driver: 'overlay2' })).rejects.toMatchObject({
      code: 'ERR_OVERLAY_STORE_ROOT',
    });
    scratch.file('other/file/x');
    await expect(
      (async () =>
        (await import('../../lib/store/index.ts')).openStore(scratch.path('other'), { driver: 'overlay' }))(),
    ).rejects.toMatchObject({ code: 'ERR_OVERLAY_STORE_ROOT' });
  });

  it('removes layers from the top, and what others share stays', async () => {
    const store = await openedLegacy(scratch);
    await threeLayers(store, scratch);
    for (const id of ['base', 'next']) {
      await expect(store.remove(id)).rejects.toMatchObject({ code: 'ERR_OVERLAY_STORE_LAYER_HAS_CHILDREN' });
    }
    await store.remove('box');
    await store.remove('next');
    await using base = await store.mount('base');
    expect(readFileSync(base.path('dir/b'), 'utf8')).toBe('below');
  });
});
