/** Stores that other programs have made: read as they are, and written to only while nobody else does. */
import { execFileSync } from 'node:child_process';
import {
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { type LayerStore, openStore, type StoreOptions } from '../../lib/store/index.ts';
import { waitingShell } from '../support/child.ts';
import { describePrivileged } from '../support/needs.ts';
import { expectRefusal } from '../support/refusal.ts';
import { type Scratch, scratchOn } from '../support/scratch.ts';
import { opened, threeLayers } from '../support/store.ts';

const ids = { base: 'a'.repeat(64), next: 'tq3vtqkblbdnkfqh0kwm5qz0z', box: 'b'.repeat(64) } as const;

/** What Docker's daemon leaves: hexadecimal ids, one of BuildKit's, and no word of this package. Closed. */
async function dockerStore(scratch: Scratch): Promise<string> {
  await using store = await openStore(scratch.path('overlay2'), { driver: 'overlay2', durability: 'none' });
  await threeLayers(store, scratch);
  for (const [id, name] of Object.entries(ids)) {
    const link = readFileSync(join(store.root, id, 'link'), 'utf8');
    rmSync(join(store.root, 'l', link));
    rmSync(join(store.root, id, 'overlayfs.json'));
    renameSync(join(store.root, id), join(store.root, name));
    symlinkSync(`../${name}/diff`, join(store.root, 'l', link));
  }
  rmSync(join(store.root, '.overlayfs'), { recursive: true });
  return store.root;
}

const everything = (root: string) =>
  execFileSync('find', [root, '-printf', '%p %y %m %s %T@ %l\n'], { encoding: 'utf8' }).split('\n').sort();

/** Holds a record lock until its standard input ends. */
const lockf = `
import fcntl, sys
file = open(sys.argv[1], "r+")
fcntl.lockf(file, fcntl.LOCK_EX)
open(sys.argv[1] + ".locked", "w")
sys.stdin.read()`;

describePrivileged("another program's store", () => {
  const scratch = scratchOn('tmpfs');

  it('is read as it is, and not written to', async () => {
    const root = await dockerStore(scratch);
    const before = everything(root);
    const store = await opened(scratch);
    expect(store).toMatchObject({ foreign: true, readonly: true });
    expect(await store.list()).toEqual([
      { id: ids.base, kind: 'image', readonly: true, own: false, path: join(root, ids.base) },
      {
        id: ids.box,
        kind: 'unknown',
        readonly: false,
        own: false,
        path: join(root, ids.box),
        parent: ids.next,
      },
      {
        id: ids.next,
        kind: 'image',
        readonly: true,
        own: false,
        path: join(root, ids.next),
        parent: ids.base,
      },
    ]);
    expect(await store.chain(ids.box)).toEqual([ids.box, ids.next, ids.base]);
    const told: string[] = [];
    await using stream = store.changes(ids.next);
    for await (const { kind, path } of stream) told.push(`${kind} ${path}`);
    expect(told).toEqual(['deleted a', 'added dir/c']);
    expect(await store.usage(ids.base)).toMatchObject({ apparent: 14n });
    expect(await store.check()).toEqual([]);
    for (const attempt of [
      () => store.create('new', { kind: 'image' }),
      () => store.mount(ids.box),
      () => store.commit(ids.box, { id: 'new' }),
      () => store.remove(ids.box),
      () => store.gc(),
      () => store.check({ repair: true }),
    ])
      await expectRefusal(scratch, 'ERR_OVERLAY_STORE_READONLY', attempt);
    expect(everything(root)).toEqual(before);
  });

  it('can be looked at through a mount elsewhere, which changes nothing in it', async () => {
    const root = await dockerStore(scratch);
    const before = everything(root);
    const store = await opened(scratch);
    {
      await using view = await store.mount(ids.box, { target: scratch.directory('view') });
      expect(readdirSync(view.path('dir')).sort()).toEqual(['b', 'c']);
      expect(() => writeFileSync(view.path('new'), '')).toThrow('EROFS');
    }
    expect(everything(root)).toEqual(before);
  });

  it('is written to where that is asked for', async () => {
    const root = await dockerStore(scratch);
    const store = await opened(scratch, { foreign: 'write' });
    expect(store).toMatchObject({ foreign: true, readonly: false });
    await store.create('new', { kind: 'container', parent: ids.next });
    {
      await using box = await store.mount('new');
      expect(readdirSync(box.path('dir')).sort()).toEqual(['b', 'c']);
    }
    expect(readFileSync(join(root, 'new/lower'), 'utf8').split(':')).toHaveLength(2);
    symlinkSync('../gone/diff', join(root, 'l', 'A'.repeat(26)));
    mkdirSync(join(root, '.overlayfs/new/1'));
    mkdirSync(join(root, ids.box, 'merged'));
    const link = readFileSync(join(root, ids.base, 'link'), 'utf8');
    rmSync(join(root, 'l', link));
    const repaired = await store.check({ repair: true });
    // Nothing of the owner's is touched, not even what looks wrong.
    expect(repaired.filter((one) => one.repaired).map(({ path }) => path?.slice(root.length + 1))).toEqual([
      '.overlayfs/new/1',
      `l/${'A'.repeat(26)}`,
    ]);
    expect(readdirSync(join(root, ids.box))).toContain('merged');
    await store.remove('new');
    expect((await store.list()).map(({ id }) => id)).toEqual([ids.base, ids.box, ids.next].sort());
  });

  it.each([
    ["Docker's daemon holds its databases", 'volumes/metadata.db', 'exec 9<> "$DB"; flock -x 9', 'flock'],
    [
      'containers/storage is at work',
      'overlay-layers/layers.lock',
      `exec 3<&0; python3 -c '${lockf}' "$DB" <&3 & until [ -e "$DB.locked" ]; do sleep 0.02; done`,
      'fcntl',
    ],
  ])('is not written to while %s', async (_, file, script, call) => {
    await dockerStore(scratch);
    const path = scratch.file(file);
    await using writer = await opened(scratch, { foreign: 'write' });
    {
      await using _owner = await waitingShell(`export DB='${path}'; ${script}`);
      await expect(
        openStore(scratch.path('overlay2'), { driver: 'overlay2', foreign: 'write' }),
      ).rejects.toMatchObject({
        code: 'ERR_OVERLAY_STORE_OWNER_ALIVE',
        message: expect.stringContaining(`${call}(2)`),
      });
      // It may have been started since.
      await expect(writer.create('new', { kind: 'image' })).rejects.toMatchObject({
        code: 'ERR_OVERLAY_STORE_OWNER_ALIVE',
      });
      expect(await writer.list()).toHaveLength(3);
    }
  });

  it.each([
    ['overlay2', ['l'], true],
    ['overlay2', [], false],
    ['overlay', [], false],
  ] as const)(
    "is not taken for nobody's while it has no layer yet: %s with %j",
    async (driver, begun, told) => {
      const root = scratch.directory('docker', driver);
      for (const name of begun) scratch.directory('docker', driver, name);
      const before = everything(root);
      const database = scratch.file('docker/volumes/metadata.db');
      const open = () =>
        openStore(root, { driver, durability: 'none', ...(told ? { foreign: 'write' } : {}) });
      {
        await using _daemon = await waitingShell(`exec 9<> '${database}'; flock -x 9`);
        await expectRefusal(scratch, 'ERR_OVERLAY_STORE_OWNER_ALIVE', open);
        await using reading = await openStore(root, { driver, readonly: true });
        expect(await reading.list()).toEqual([]);
        expect(everything(root)).toEqual(before);
      }
      await using store = await open();
      expect(store).toMatchObject({ foreign: told, readonly: false });
    },
  );

  it('is told from an empty one that was begun by this package, and not finished', async () => {
    const root = scratch.directory('overlay2');
    scratch.directory('overlay2/l');
    {
      await using foreign = await openStore(root, { driver: 'overlay2' });
      expect(foreign).toMatchObject({ foreign: true, readonly: true });
    }
    expect(readdirSync(root)).toEqual(['l']);
    scratch.directory('overlay2/.overlayfs');
    const own = await opened(scratch);
    expect(own).toMatchObject({ foreign: false, readonly: false });
  });

  it('is not written to while its containers run', async () => {
    const root = await dockerStore(scratch);
    mkdirSync(join(root, ids.box, 'merged'));
    const script = `mount -t overlay overlay -o lowerdir=${ids.next}/diff:${ids.base}/diff,upperdir=${ids.box}/diff,workdir=${ids.box}/work ${ids.box}/merged`;
    execFileSync('sh', ['-c', script], { cwd: root });
    try {
      await expect(openStore(root, { driver: 'overlay2', foreign: 'write' })).rejects.toMatchObject({
        code: 'ERR_OVERLAY_STORE_OWNER_ALIVE',
      });
    } finally {
      execFileSync('umount', [join(root, ids.box, 'merged')]);
    }
  });

  const inOwnNamespace = ['unshare', '--mount', '--propagation', 'private'];
  const mountBox = `mkdir -p box/merged
    mount -t overlay overlay -o lowerdir=lower,upperdir=box/diff,workdir=box/work box/merged`;

  it('is not written to while its containers run in another mount namespace, as they do without privilege', async () => {
    const root = await dockerStore(scratch);
    const script = `cd ${root}; ln -s ${ids.next}/diff lower; ln -s ${ids.box} box; ${mountBox}`;
    await using _ = await waitingShell(script, inOwnNamespace);
    await expect(openStore(root, { driver: 'overlay2', foreign: 'write' })).rejects.toMatchObject({
      code: 'ERR_OVERLAY_STORE_OWNER_ALIVE',
      message: expect.stringMatching(/mounted at .*\/merged in the mount namespace of process \d+/),
    });
  });

  it('is written to while another store, at the same path in another namespace, is in use', async () => {
    const root = await dockerStore(scratch);
    const script = `mount -t tmpfs tmpfs ${root}; cd ${root}; mkdir -p lower box/diff box/work; ${mountBox}`;
    await using _ = await waitingShell(script, inOwnNamespace);
    expect(await opened(scratch, { foreign: 'write' })).toMatchObject({ readonly: false });
  });
});

describePrivileged('a store of containers/storage', () => {
  const scratch = scratchOn('tmpfs');

  /** It marks nothing as committed, gives base layers `empty` and `work`, and lists the parents' ids. */
  async function podmanStore(options: Partial<StoreOptions> = {}): Promise<LayerStore> {
    const root = await dockerStore(scratch);
    for (const id of [ids.base, ids.next]) rmSync(join(root, id, 'committed'));
    for (const name of ['empty', 'work', 'merged']) mkdirSync(join(root, ids.base, name));
    writeFileSync(join(root, '.has-mount-program'), 'false');
    return opened(scratch, options);
  }

  it('is read through `lower`', async () => {
    const store = await podmanStore();
    expect(await store.check()).toEqual([]);
    expect(await store.chain(ids.box)).toEqual([ids.box, ids.next, ids.base]);
    expect(await store.get(ids.base)).toMatchObject({ readonly: true, kind: 'image' });
    await using view = await store.mount(ids.base, { target: scratch.directory('view') });
    expect(readdirSync(view.path()).sort()).toEqual(['a', 'dir']);
  });

  it('is read through `lower-layers`, which needs no links', async () => {
    const store = await podmanStore();
    writeFileSync(join(store.root, ids.box, 'lower-layers'), `${ids.next}:${ids.base}`);
    writeFileSync(join(store.root, ids.next, 'lower-layers'), ids.base);
    rmSync(join(store.root, 'l'), { recursive: true });
    mkdirSync(join(store.root, 'l'));
    expect(await store.chain(ids.box)).toEqual([ids.box, ids.next, ids.base]);
    expect((await store.list()).find(({ id }) => id === ids.box)?.parent).toBe(ids.next);
    await using view = await store.mount(ids.box, { target: scratch.directory('view') });
    expect(readdirSync(view.path('dir')).sort()).toEqual(['b', 'c']);
    writeFileSync(join(store.root, ids.box, 'lower'), '');
    expect(await store.chain(ids.box)).toEqual([ids.box, ids.next, ids.base]);
    rmSync(join(store.root, ids.box, 'lower'));
    expect(await store.chain(ids.box)).toEqual([ids.box, ids.next, ids.base]);
  });

  it('keeps what layers lie on, although nothing marks it as read-only', async () => {
    const store = await podmanStore({ foreign: 'write' });
    const { root } = store;
    expect((await store.list()).map(({ id, readonly }) => [id, readonly])).toEqual(
      [
        [ids.base, true],
        [ids.box, false],
        [ids.next, true],
      ].sort(),
    );
    expect(await store.get(ids.next)).toMatchObject({ readonly: true });
    for (const id of [ids.base, ids.next]) {
      await expectRefusal(scratch, 'ERR_OVERLAY_STORE_LAYER_READONLY', () =>
        store.mount(id, { readonly: false }),
      );
      await expectRefusal(scratch, 'ERR_OVERLAY_STORE_LAYER_HAS_CHILDREN', () => store.remove(id));
    }
    // An empty one too could be filled, but for that.
    for (const name of readdirSync(join(root, ids.next, 'diff')))
      rmSync(join(root, ids.next, 'diff', name), { recursive: true });
    await expectRefusal(scratch, 'ERR_OVERLAY_STORE_LAYER_READONLY', () =>
      store.apply(ids.next, scratch.path('base')),
    );
    {
      await using image = await store.mount(ids.next);
      expect(image.plan.upper).toBeUndefined();
    }
    await store.remove(ids.box);
    await store.remove(ids.next);
    expect((await store.list()).map(({ id }) => id)).toEqual([ids.base]);
  });
});
