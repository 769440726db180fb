/**
 * Every system call that changes a store, or that finds what is to be changed, failing whichever time it is made: the call says
 * so, and leaves the store as it was. Which calls there are is told by the addon itself. OVERLAYFS_TEST_FAULTS=all lets every
 * call fail every time, those too that only look.
 */
import { execFileSync } from 'node:child_process';
import { closeSync, openSync, readdirSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { inspect } from 'node:util';
import { expect, it } from 'vitest';
import { OverlayError } from '../../lib/index.ts';
import { type LayerStore, openStore, type StoreDriver } from '../../lib/store/index.ts';
import { clear, type Fault, plan } from '../support/faults.ts';
import { describePrivileged } from '../support/needs.ts';
import { afterThisTest, openFiles, scratchOn } from '../support/scratch.ts';
import {
  drivers,
  listing,
  type Operation,
  operations,
  preparedStore,
  shown,
  upperOf,
} from '../support/store-operations.ts';

/** By their names in native/core/sys.cc: once, as of a disk that is worn out. */
const changing = [
  'chmod',
  'copy_file_range',
  'fchmod',
  'fchownat',
  'fremovexattr',
  'fsconfig',
  'fsetxattr',
  'fsmount',
  'fsync',
  'ftruncate',
  'ioctl',
  'linkat',
  'mkdirat',
  'mknodat',
  'mount',
  'move_mount',
  'openat',
  'openat2',
  'removexattr',
  'renameat2',
  'sendfile',
  'setxattr',
  'symlinkat',
  'syncfs',
  'umount2',
  'unlinkat',
  'utimensat',
  'write',
];
/** From then on, as on a full disk. */
const taking = ['copy_file_range', 'linkat', 'mkdirat', 'mknodat', 'setxattr', 'symlinkat', 'write'];
/** So many of a call that is made often, evenly spread, unless all are asked for. */
const MOST = 8;
const all = process.env.OVERLAYFS_TEST_FAULTS === 'all';

const inPlace = /is there, and may not be durable/;

/** With a code of ours; of a file in a layer, as node:fs tells it. */
const isTold = (outcome: unknown): outcome is Error =>
  outcome instanceof OverlayError || (outcome instanceof Error && 'syscall' in outcome && 'path' in outcome);

const openIn = ({ root }: LayerStore): string[] => openFiles().filter((path) => path.startsWith(root));

describePrivileged('a store in which a system call fails', () => {
  const scratch = scratchOn('tmpfs');
  let count = 0;
  const prepared = async (driver: StoreDriver, { before }: Operation): Promise<LayerStore> => {
    const store = await preparedStore(scratch, `store-${++count}`, { driver, durability: 'metadata' });
    before?.(store);
    return store;
  };

  // What an operation does when nothing fails.
  async function callsOf(driver: StoreDriver, operation: Operation): Promise<Record<string, number>> {
    await using store = await prepared(driver, operation);
    clear();
    await operation.run(store, scratch);
    return clear();
  }

  function faultsOf(calls: Record<string, number>): Fault[] {
    return Object.entries(calls).flatMap(([call, times]) => {
      const most = all ? times : Math.min(times, MOST);
      const each = Array.from({ length: most }, (_, index) => Math.floor((index * times) / most));
      const once = all || changing.includes(call);
      return each.flatMap((skip): Fault[] => [
        ...(once ? [{ call, error: 'EIO', skip, times: 1 } as const] : []),
        ...(taking.includes(call) ? [{ call, error: 'ENOSPC', skip, times: -1 } as const] : []),
      ]);
    });
  }

  async function expectAsBefore(
    store: LayerStore,
    { layer, shows, before }: Operation,
    was: readonly string[],
    error: Error | undefined,
  ): Promise<boolean> {
    const is = listing(store.root);
    const unchanged = is.join('\n') === was.join('\n');
    const done = error === undefined || inPlace.test(error.message);
    const clearing = before !== undefined || shows === undefined;
    // What was to go is gone or there; nothing else is.
    // A link that could not be read gets another name.
    const names = (lines: readonly string[]) =>
      lines.map((line) => line.split(' ')[0]?.replace(/^l\/(?!A{26})[A-Z2-7]{26}$/, 'l/LINK'));
    if (clearing) expect([...names(was), 'box/merged']).toEqual(expect.arrayContaining(names(is)));
    else if (!done) expect(is).toEqual(was);
    const left = await store.check();
    // What could not be removed at the end does no harm.
    if (done || clearing) for (const finding of left) expect(finding).toMatchObject({ repairable: true });
    else expect(left).toEqual([]);
    await store.check({ repair: true });
    expect(await store.check()).toEqual([]);
    expect(readdirSync(join(store.root, '.overlayfs/new'))).toEqual([]);
    if (layer !== undefined && done) expect(await shown(store, layer)).toBe(shows);
    if (!unchanged) {
      expect(await shown(store, 'base')).toBe('dir,fifo,file,hard,soft');
      if (layer !== 'box') expect(await shown(store, 'box')).toBe('dir,fifo,file,hard,own,soft');
    }
    return unchanged;
  }

  const cases = drivers.flatMap((driver) =>
    Object.entries(operations).map(([name, operation]) => [name, driver, operation] as const),
  );

  it.each(cases)(
    'is as before when %s fails, whichever call and whichever time: %s',
    {
      timeout: all ? 600_000 : 60_000,
    },
    async (_, driver, operation) => {
      const faults = faultsOf(await callsOf(driver, operation));
      expect(faults).not.toEqual([]);
      let store: LayerStore | undefined;
      afterThisTest(() => store?.close());
      let was: readonly string[] = [];
      let open: readonly string[] = [];
      for (const fault of faults) {
        if (store === undefined) {
          store = await prepared(driver, operation);
          was = listing(store.root);
          open = openIn(store);
        }
        plan(fault);
        const outcome = await operation.run(store, scratch).then(
          () => undefined,
          (reason: unknown) => reason,
        );
        clear();
        try {
          if (outcome !== undefined && !isTold(outcome)) throw outcome;
          for (const point of scratch.mounts()) await store.unmount(point.split('/').at(-2) ?? '');
          const unchanged = await expectAsBefore(store, operation, was, outcome);
          expect(openIn(store)).toEqual(open);
          if (unchanged) continue;
        } catch (error) {
          throw new Error(`with ${JSON.stringify(fault)}, after ${inspect(outcome)}`, { cause: error });
        }
        await store.close();
        store = undefined;
      }
    },
  );

  it('says that a layer is there, though it could not be made durable', async () => {
    await using store = await preparedStore(scratch, 'store', { driver: 'overlay2' });
    clear();
    await store.create('first', { kind: 'image' });
    const { fsync = 0 } = clear();
    plan({ call: 'fsync', error: 'EIO', skip: fsync - 1, times: 1 });
    await expect(store.create('second', { kind: 'image' })).rejects.toMatchObject({
      code: 'ERR_OVERLAY_STORE_FAILED',
      message: expect.stringMatching(inPlace),
    });
    clear();
    expect(await store.get('second')).toBeDefined();
    expect(await store.check()).toEqual([]);
  });

  it.each(drivers)('is as before on a disk that is full: %s', async (driver) => {
    const disk = scratch.directory('disk');
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=2m,mode=755', 'small', disk]);
    afterThisTest(() => execFileSync('umount', [disk]));
    scratch.file('large/file', 'x'.repeat(400_000));
    await using store = await preparedStore(scratch, 'disk/store', { driver, durability: 'none' });
    await store.create('large', { kind: 'image' });
    await store.apply('large', scratch.path('large'));
    await store.create('full', { kind: 'container', parent: 'large' });
    scratch.file(`disk/store/full/${upperOf(driver)}/own`, 'x'.repeat(400_000));
    const filler = openSync(scratch.path('disk/filler'), 'w');
    expect(() => {
      for (;;) writeSync(filler, Buffer.alloc(4096));
    }).toThrow('ENOSPC');
    closeSync(filler);
    const before = listing(store.root);
    const noSpace = { code: 'ERR_OVERLAY_NO_SPACE' };
    for (const attempt of [
      () => store.create('new', { kind: 'image' }),
      () => store.create('new', { kind: 'container', parent: 'full' }),
      () => store.apply('empty', scratch.path('large')),
      () => store.apply('bare', scratch.path('large')),
      () => store.commit('full', { id: 'new' }),
    ]) {
      await expect(attempt()).rejects.toMatchObject(noSpace);
      expect(listing(store.root)).toEqual(before);
      expect(await store.check()).toEqual([]);
    }
    await store.remove('full');
    await store.apply('empty', scratch.path('large'));
    expect(await shown(store, 'empty')).toBe('dir,fifo,file,hard,soft');
    expect(await store.check()).toEqual([]);
  });

  it('says what failed, and that the disk is full', async () => {
    await using store = await preparedStore(scratch, 'store', { driver: 'overlay2' });
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
