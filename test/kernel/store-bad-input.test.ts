/** What a store is asked that it must refuse: with a reason, and with nothing changed. */
import { execFileSync } from 'node:child_process';
import { chmodSync, chownSync, existsSync, readdirSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { mountOverlay } from '../../lib/index.ts';
import { openStore, type StoreOptions } from '../../lib/store/index.ts';
import { describePrivileged } from '../support/needs.ts';
import { expectRefusal } from '../support/refusal.ts';
import { afterThisTest, scratchOn } from '../support/scratch.ts';
import { opened, threeLayers } from '../support/store.ts';
import { drivers, listing, preparedStore, upperOf } from '../support/store-operations.ts';

const overlay2: StoreOptions = { driver: 'overlay2' };

describe('arguments of the wrong type', () => {
  const wrong: readonly (readonly [string, () => Promise<unknown>])[] = [
    ['no options', () => openStore('/nowhere', undefined as never)],
    ['no driver', () => openStore('/nowhere', {} as never)],
    ['an unknown driver', () => openStore('/nowhere', { driver: 'aufs' as never })],
    ['an unknown option', () => openStore('/nowhere', { ...overlay2, mode: 1 } as never)],
    ['an unknown durability', () => openStore('/nowhere', { ...overlay2, durability: 'some' as never })],
    ['a root with a NUL', () => openStore('/no\0where', overlay2)],
  ];

  it.each(wrong)('are refused as a type checker would: %s', async (_, attempt) => {
    await expect(attempt()).rejects.toMatchObject({ code: 'ERR_INVALID_ARG_VALUE' });
  });
});

describePrivileged('the root of a store', () => {
  const scratch = scratchOn('tmpfs');
  const refused = (code: string, root: string, options: Partial<StoreOptions> = {}) =>
    expectRefusal(scratch, code, () => openStore(root, { ...overlay2, ...options }));

  it('must be there, or the directory above it', async () => {
    await refused('ERR_OVERLAY_STORE_ROOT', scratch.path('no/overlay2'));
    await refused('ERR_OVERLAY_STORE_ROOT', scratch.path('overlay2'), { readonly: true });
    await refused('ERR_OVERLAY_STORE_ROOT', scratch.file('file'));
    await refused('ERR_OVERLAY_EMPTY_PATH', '');
  });

  it('must be empty, or a store', async () => {
    scratch.file('photographs/summer');
    await refused('ERR_OVERLAY_STORE_ROOT', scratch.path('photographs'));
  });

  it('must belong to the user, and to nobody else, unless forced', async () => {
    const root = scratch.directory('overlay2');
    chmodSync(root, 0o770);
    await refused('ERR_OVERLAY_STORE_ROOT_UNSAFE', root);
    chmodSync(root, 0o710);
    chownSync(root, 1, 1);
    await refused('ERR_OVERLAY_STORE_ROOT_UNSAFE', root);
    await using store = await openStore(root, { ...overlay2, force: true });
    expect(store.readonly).toBe(false);
  });

  it('must lie where an upper can', async () => {
    await using overlay = await mountOverlay({ ...scratch.layers(), target: scratch.path('merged') });
    const error = await openStore(overlay.path('overlay2'), overlay2).catch((reason) => reason);
    expect(error).toMatchObject({
      code: 'ERR_OVERLAY_STORE_ROOT',
      message: expect.stringContaining('overlay'),
    });
    const ram = scratch.directory('ram');
    execFileSync('mount', ['-t', 'ramfs', 'x', ram]);
    afterThisTest(() => execFileSync('umount', [ram]));
    await refused('ERR_OVERLAY_STORE_ROOT', join(ram, 'overlay2')).catch(() => {});
    await expect(openStore(join(ram, 'overlay2'), overlay2)).rejects.toMatchObject({
      code: 'ERR_OVERLAY_STORE_ROOT',
    });
    expect(readdirSync(join(ram, 'overlay2'))).toEqual([]);
  });

  it('must lie where readdir(3) tells directories from files', async () => {
    const [image, point] = [scratch.file('image'), scratch.directory('old')];
    const script = 'truncate -s 16M "$0"; mkfs.ext4 -qF -O ^filetype "$0"; mount -o loop "$0" "$1"';
    const env = { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/sbin` };
    execFileSync('sh', ['-ec', script, image, point], { env });
    afterThisTest(() => execFileSync('umount', [point]));
    const root = join(point, 'overlay2');
    await expect(openStore(root, overlay2)).rejects.toMatchObject({ code: 'ERR_OVERLAY_STORE_ROOT' });
    expect(readdirSync(root)).toEqual([]);
  });

  it('is one driver’s', async () => {
    const store = await opened(scratch);
    const { writeFileSync } = await import('node:fs');
    writeFileSync(join(store.root, '.overlayfs/store.json'), '{"version":1,"driver":"overlay"}');
    await refused('ERR_OVERLAY_STORE_ROOT', store.root);
  });
});

describePrivileged('a layer', () => {
  const scratch = scratchOn('tmpfs');

  it.each([
    '',
    '.',
    '..',
    'a/b',
    '../a',
    '/a',
    'l',
    '.hidden',
    'a,b',
    'a:b',
    'a b',
    'é',
    'a\0',
    'x'.repeat(256),
  ])('cannot be called %j', async (id) => {
    const store = await opened(scratch);
    const code = 'ERR_OVERLAY_STORE_ID';
    for (const attempt of [
      () => store.create(id, { kind: 'image' }),
      () => store.create('good', { kind: 'image', parent: id }),
      () => store.get(id),
      () => store.remove(id),
      () => store.commit('good', { id }),
    ])
      await expectRefusal(scratch, code, attempt);
    expect(() => store.changes(id)).toThrow(code);
  });

  it('is not given the directory that its store lies in', async () => {
    const store = await opened(scratch);
    await store.create('base', { kind: 'image' });
    const bound = scratch.directory('bound');
    execFileSync('mount', ['--bind', scratch.root, bound]);
    afterThisTest(() => execFileSync('umount', [bound]));
    for (const holder of [scratch.root, bound, store.root, join(store.root, '.overlayfs/new')])
      await expectRefusal(scratch, 'ERR_OVERLAY_TARGET_OVERLAPS', () => store.apply('base', holder));
    scratch.file('overlay2/base/diff/file');
    await store.create('copy', { kind: 'image' });
    await store.apply('copy', join(store.root, 'base/diff'));
    expect(readdirSync(join(store.root, 'copy/diff'))).toEqual(['file']);
  });

  it('can have a name of 255 bytes', async () => {
    const store = await opened(scratch);
    const id = 'x'.repeat(255);
    await store.create(id, { kind: 'image' });
    await store.create('box', { kind: 'container', parent: id });
    await using _ = await store.mount('box');
    expect(await store.parent('box')).toBe(id);
  });

  it('needs what it is made of', async () => {
    const store = await opened(scratch);
    await threeLayers(store, scratch);
    const refused = (code: string, attempt: () => Promise<unknown>) => expectRefusal(scratch, code, attempt);
    const missing = 'ERR_OVERLAY_STORE_LAYER_NOT_FOUND';
    await refused(missing, () => store.create('new', { kind: 'image', parent: 'nobody' }));
    await refused(missing, () => store.create('new', { kind: 'container' }));
    for (const attempt of [
      () => store.mount('nobody'),
      () => store.unmount('nobody'),
      () => store.remove('nobody'),
      () => store.stack('nobody'),
      () => store.chain('nobody'),
      () => store.usage('nobody'),
      () => store.apply('nobody', scratch.path('base')),
      () => store.commit('nobody', { id: 'new' }),
    ])
      await refused(missing, attempt);
    await refused('ERR_OVERLAY_STORE_LAYER_EXISTS', () => store.create('box', { kind: 'image' }));
    await refused('ERR_OVERLAY_STORE_LAYER_EXISTS', () => store.commit('box', { id: 'base' }));
    await refused('ERR_OVERLAY_STORE_LAYER_READONLY', () => store.apply('base', scratch.path('base')));
    await store.create('child', { kind: 'image', parent: 'box' });
    await refused('ERR_OVERLAY_STORE_LAYER_READONLY', () => store.mount('box', { readonly: false }));
    await refused('ERR_OVERLAY_STORE_LAYER_READONLY', () => store.apply('box', scratch.path('base')));
    await expect(store.create('new', { kind: 'volume' as never })).rejects.toMatchObject({
      code: 'ERR_INVALID_ARG_VALUE',
    });
  });

  it('takes no content that could not be understood without its other layers', async () => {
    const store = await opened(scratch);
    await store.create('new', { kind: 'image' });
    scratch.file('tree/file');
    execFileSync('setfattr', ['-n', 'trusted.overlay.metacopy', scratch.path('tree/file')]);
    await expectRefusal(scratch, 'ERR_OVERLAY_FOREIGN_LAYER', () => store.apply('new', scratch.path('tree')));
    await expect(store.apply('new', scratch.path('no'))).rejects.toMatchObject({ errno: -2 });
    await expect(store.apply('new', 42 as never)).rejects.toMatchObject({ code: 'ERR_INVALID_ARG_VALUE' });
  });

  it('is copied without following symbolic links, and without what the kernel kept for itself', async () => {
    const store = await opened(scratch);
    await store.create('new', { kind: 'image' });
    scratch.directory('tree/opaque');
    symlinkSync('/etc', scratch.path('tree/link'));
    for (const [name, value] of [
      ['opaque', 'y'],
      ['impure', 'y'],
      ['origin', 'x'],
    ] as const)
      execFileSync('setfattr', ['-n', `trusted.overlay.${name}`, '-v', value, scratch.path('tree/opaque')]);
    await store.apply('new', scratch.path('tree'));
    const copied = execFileSync('getfattr', [
      '-d',
      '-m',
      '-',
      '--absolute-names',
      join(store.root, 'new/diff/opaque'),
    ]);
    expect(copied.toString().match(/trusted\.overlay\.\w+/g)).toEqual(['trusted.overlay.opaque']);
    expect(existsSync(join(store.root, 'new/diff/link'))).toBe(true);
    expect(execFileSync('readlink', [join(store.root, 'new/diff/link')]).toString()).toBe('/etc\n');
  });

  it('stops where it is told to, and leaves nothing', async () => {
    const store = await opened(scratch);
    await threeLayers(store, scratch);
    const signal = AbortSignal.abort(new Error('enough'));
    await store.create('new', { kind: 'image' });
    await expect(store.apply('new', scratch.path('base'), { signal })).rejects.toThrow('enough');
    await expect(store.commit('box', { id: 'other', signal })).rejects.toThrow('enough');
    await expect(store.usage('box', { signal })).rejects.toThrow('enough');
    expect(await store.get('other')).toBeUndefined();
    expect(readdirSync(join(store.root, '.overlayfs/new'))).toEqual([]);
    expect(await store.check()).toEqual([]);
  });

  it.each(drivers)('is as before when its filling is aborted half-way: %s', async (driver) => {
    const store = await preparedStore(scratch, 'store', { driver, durability: 'none' });
    afterThisTest(() => store.close());
    for (let count = 0; count < 2000; count++) scratch.file(`many/${count}`, 'content');
    for (let count = 0; count < 2000; count++)
      scratch.file(`store/clean/${upperOf(driver)}/${count}`, 'content');
    const before = listing(store.root);
    const staging = join(store.root, '.overlayfs/new');
    const begun = () =>
      readdirSync(staging).some((name) => {
        const content = join(staging, name, 'content');
        return existsSync(content) && readdirSync(content).length > 0;
      });
    for (const attempt of [
      (signal: AbortSignal) => store.apply('empty', scratch.path('many'), { signal }),
      (signal: AbortSignal) => store.commit('clean', { id: 'new', signal }),
    ]) {
      const stop = new AbortController();
      const outcome = expect(attempt(stop.signal)).rejects.toThrow('enough');
      while (!begun()) await nextTurn();
      stop.abort(new Error('enough'));
      await outcome;
      expect(listing(store.root)).toEqual(before);
      expect(readdirSync(staging)).toEqual([]);
      expect(await store.check()).toEqual([]);
    }
  });
});
