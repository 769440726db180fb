// @module-tag vm
/** What is mounted, from both of the kernel's sources. */
import { execFileSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { beforeAll, expect, it } from 'vitest';
import { listOverlays, mountOverlay, type OverlayOptions } from '../../lib/index.ts';
import { kernelFeatures } from '../../lib/inspect/kernel.ts';
import { type MountedOverlay, readMountTable } from '../../lib/inspect/mount-table.ts';
import { mount, umount } from '../support/commands.ts';
import { ownRung } from '../support/kernel.ts';
import { describePrivileged, needsKernel, needsOption } from '../support/needs.ts';
import { afterThisTest, type Scratch, scratchOn } from '../support/scratch.ts';

type Arrange = (scratch: Scratch) => OverlayOptions | string;

const lowers = (s: Scratch) => [s.directory('a'), s.directory('b')];
const writable = (s: Scratch) => s.layers();
const odd = (s: Scratch): OverlayOptions => {
  const name = (role: string) => {
    const path = Buffer.from(`${s.root}/${role} ,:\\\t\n#"\xff`, 'latin1');
    mkdirSync(path);
    return path;
  };
  return {
    lower: [name('lower'), s.directory('b')],
    upper: name('upper'),
    work: name('work'),
    target: name('target'),
  };
};
const foreign = (s: Scratch, options: string, ...more: string[]) => {
  const { lower, upper, work, target } = s.layers();
  const layers = `lowerdir=${lower}:${s.directory('b')},upperdir=${upper},workdir=${work}`;
  execFileSync('mount', ['-t', 'overlay', ...more, '-o', `${layers}${options}`, 'foreign', target], {
    cwd: s.root,
  });
  return target;
};

// Each is mounted, and must look the same from both sources.
const mounts: Readonly<Record<string, Arrange>> = {
  'a read-only one': (s) => ({ lower: lowers(s), target: s.directory('merged') }),
  'a writable one': writable,
  'a writable one by mount(2)': (s) => ({ ...writable(s), mountApi: 'mount' }),
  'one with an upper that is read-only': (s) => ({ ...writable(s), readonly: true }),
  'one with an upper that is read-only, by mount(2)': (s) => ({
    ...writable(s),
    readonly: true,
    mountApi: 'mount',
  }),
  'odd names': odd,
  'odd names by mount(2)': (s) => ({ ...odd(s), mountApi: 'mount' }),
  scratch: (s) => ({ lower: s.directory('a'), scratch: true, target: s.directory('merged') }),
  'an empty lower': (s) => ({
    lower: s.directory('a'),
    allowSingleLower: true,
    target: s.directory('merged'),
  }),
  'data-only layers': (s) => ({
    lower: s.directory('a'),
    dataOnlyLower: [s.directory('b')],
    target: s.directory('merged'),
  }),
  'data-only layers by mount(2)': (s) => ({
    lower: s.directory('a'),
    dataOnlyLower: [s.directory('b')],
    target: s.directory('merged'),
    mountApi: 'mount',
  }),
  'every option': (s) => ({
    ...writable(s),
    index: true,
    nfsExport: true,
    xino: 'on',
    redirectDir: 'on',
    uuid: 'null',
    volatile: true,
  }),
  metacopy: (s) => ({ ...writable(s), metacopy: true, verity: 'on' }),
  userxattr: (s) => ({ ...writable(s), userxattr: true }),
  'every flag': (s) => ({
    ...writable(s),
    mountFlags: { nosuid: true, nodev: true, noexec: true, noatime: true, nodiratime: true },
  }),
  strictatime: (s) => ({ ...writable(s), mountFlags: { strictatime: true } }),
  'strictatime without directories': (s) => ({
    ...writable(s),
    mountFlags: { strictatime: true, nodiratime: true },
  }),
  'a slave': (s) => ({ ...writable(s), propagation: 'slave' }),
  'a shared one': (s) => ({ ...writable(s), propagation: 'shared' }),
  'an unbindable one': (s) => ({ ...writable(s), propagation: 'unbindable' }),
  'one with a source of its own': (s) => ({ ...writable(s), source: 'a b\\c,é' }),
  'one of mount(8)': (s) => foreign(s, ''),
  'one of mount(8) with flags': (s) => foreign(s, ',ro,noatime,nosuid'),
};

describePrivileged('the list of overlays', () => {
  const scratch = scratchOn();
  let [statmount, nativeParser, detachedLayers] = [false, false, false];
  beforeAll(async () => {
    ({ statmount, nativeParser, detachedLayers } = await kernelFeatures());
  });

  it.for(Object.entries(mounts))(
    'is the same from statmount(2) and from mountinfo: %s',
    async ([name, arrange], context) => {
      if (name.startsWith('data-only')) needsKernel(context, nativeParser, 'data-only layers (6.5)');
      if (name === 'every option') await needsOption(context, 'uuid', 'null');
      if (name === 'metacopy') await needsOption(context, 'verity', 'on');
      const target = await arranged(arrange, scratch);
      const [[newer], [older]] = await Promise.all([list('auto'), list('mountinfo')]);
      expect(newer?.targetBytes).toEqual(target);
      expect(withoutIds(newer)).toEqual(withoutIds(older));
    },
  );

  it('has ids that are never used again where the kernel has them', async (context) => {
    needsKernel(context, statmount, 'statmount(2)');
    await using overlay = await mountOverlay(scratch.layers());
    const [newer] = await list('auto');
    const [older] = await list('mountinfo');
    expect(newer).toMatchObject({ mountId: overlay.mountId, uniqueIds: true });
    expect(older?.uniqueIds).toBe(false);
    expect(older?.mountId).toBeLessThan(newer?.mountId ?? 0n);
  });

  it('has both in the order of mounting, stacked ones included', async () => {
    const { target, ...layers } = scratch.layers();
    await using _ = await mountOverlay({ ...layers, target });
    await using second = await mountOverlay({ ...scratch.layers('second'), target });
    const listed = await list('auto');
    expect(listed.map((one) => one.target)).toEqual([target, target]);
    expect(listed[1]).toMatchObject({ mountId: second.mountId, parentId: listed[0]?.mountId });
  });

  it('tells own mounts, those of this package elsewhere, and those of others', async () => {
    await using own = await mountOverlay(scratch.layers('own'));
    await using kept = await mountOverlay({ ...scratch.layers('kept'), keepOnExit: true });
    const tagged = (name: string, source: string) => {
      const { target } = scratch.layers(name);
      const lower = `lowerdir=${scratch.directory(name, 'a')}:${scratch.directory(name, 'b')}`;
      mount('-t', 'overlay', '-o', lower, source, target);
      afterThisTest(() => umount(target));
    };
    tagged('orphan', 'overlayfs:1:2:3:4');
    tagged('unowned', 'overlayfs');
    tagged('foreign', 'overlay');
    const owners = (await listOverlays()).map(({ target, owner, process }) => [
      target.split('/').at(-2),
      owner,
      process?.pid,
    ]);
    expect(
      owners.filter(
        ([name]) => name !== undefined && ['own', 'kept', 'orphan', 'unowned', 'foreign'].includes(`${name}`),
      ),
    ).toEqual([
      ['own', 'own', process.pid],
      ['kept', 'own', undefined],
      ['orphan', 'overlayfs', 3],
      ['unowned', 'overlayfs', undefined],
      ['foreign', 'foreign', undefined],
    ]);
    expect([own.report.rung, kept.plan.source]).toEqual([await ownRung(), 'overlayfs']);
  });

  it('shows the layers as they were given, and those that no name leads to as unresolved', async () => {
    const { lower, upper, work, target } = scratch.layers();
    await using _ = await mountOverlay({ lower: [lower, scratch.directory('b')], upper, work, target });
    await using detached = await mountOverlay({ lower, scratch: true, target: scratch.directory('two') });
    const [first, second] = await list('auto');
    expect(first).toMatchObject({
      lower: [{ path: lower }, { path: scratch.path('b') }],
      upper: { path: upper },
      work: { path: work },
      options: {},
      readonly: false,
      mountFlags: [],
    });
    expect(first?.lower[0]?.unresolved).toBeUndefined();
    expect(detached.plan.scratch).toBe(true);
    const unresolved = detachedLayers ? 'detached' : 'descriptor';
    expect(second?.upper?.unresolved).toBe(unresolved);
    expect(second?.work?.unresolved).toBe(unresolved);
  });

  it('marks relative names, which nobody else can resolve', async () => {
    const { target } = scratch.layers();
    scratch.directory('b');
    execFileSync('mount', ['-i', '-t', 'overlay', '-o', 'lowerdir=lower:b', 'foreign', target], {
      cwd: scratch.root,
    });
    afterThisTest(() => umount(target));
    const [listed] = await list('auto');
    expect(listed?.lower.map(({ unresolved }) => unresolved)).toEqual(['relative', 'relative']);
  });

  it('keeps the flags of the superblock and of the mount apart', async () => {
    const { target, ...layers } = scratch.layers();
    await using overlay = await mountOverlay({ ...layers, target });
    mount('-o', 'remount,bind,ro', target);
    expect((await list('auto'))[0]).toMatchObject({ readonly: false, mountFlags: ['readonly'] });
    mount('-o', 'remount,bind,rw', target);
    await overlay.remount({ readonly: true });
    expect((await list('auto'))[0]).toMatchObject({ readonly: true, mountFlags: [] });
  });

  it('has no detached view in it, and a thousand mounts do not cut it short', {
    tags: ['slow'],
  }, async () => {
    await using _ = await mountOverlay({ lower: lowers(scratch) });
    expect(await list('auto')).toEqual([]);
    const point = scratch.directory('many');
    execFileSync('sh', ['-euc', `for i in $(seq 1100); do mount -t tmpfs many ${point}; done`]);
    afterThisTest(() => execFileSync('sh', ['-euc', `for i in $(seq 1100); do umount ${point}; done`]));
    await using last = await mountOverlay({ lower: lowers(scratch), target: scratch.directory('last') });
    expect((await list('auto')).map(({ mountId }) => mountId)).toEqual([last.mountId]);
  });

  /** Those of this test. */
  async function list(from: 'auto' | 'mountinfo'): Promise<MountedOverlay[]> {
    return (await readMountTable(from)).filter(({ target }) => target.startsWith(`${scratch.root}/`));
  }
});

async function arranged(arrange: Arrange, scratch: Scratch): Promise<Buffer> {
  const options = arrange(scratch);
  if (typeof options === 'string') {
    afterThisTest(() => umount(options));
    return Buffer.from(options);
  }
  const overlay = await mountOverlay(options);
  afterThisTest(() => overlay.unmount());
  return overlay.pathBytes();
}

function withoutIds(overlay: MountedOverlay | undefined): Partial<MountedOverlay> {
  const { mountId: _, parentId: __, uniqueIds: ___, ...rest } = overlay ?? ({} as MountedOverlay);
  return rest;
}
