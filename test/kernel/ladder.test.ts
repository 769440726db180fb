// @module-tag vm
/**
 * Every way of handing an overlay to the kernel, made to be needed: the calls fail as they do on the kernels that lack
 * them.
 */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { release } from 'node:os';
import { beforeEach, expect, it, vi } from 'vitest';
import type * as library from '../../lib/index.ts';
import type { Overlay, OverlayOptions, Rung } from '../../lib/index.ts';
import { demandsMetacopy, kernelFeatures } from '../../lib/inspect/kernel.ts';
import { mount } from '../support/commands.ts';
import { clear, type Fault, plan } from '../support/faults.ts';
import { ownRung } from '../support/kernel.ts';
import { itTakesEveryName } from '../support/names.ts';
import { describePrivileged, needsKernel } from '../support/needs.ts';
import { mountPoints, scratchOn } from '../support/scratch.ts';

type Library = typeof library;

interface Kernel {
  /** What fails while the package asks what the kernel can do. */
  readonly probed: readonly Fault[];
  /** What fails for good. */
  readonly always: readonly Fault[];
}
const layerFds: Fault = { call: 'fsconfig:SET_FD', error: 'EINVAL' };
const missing = (...calls: string[]): Fault[] => calls.map((call) => ({ call, error: 'ENOSYS' }));
const kernels = {
  'this one': { probed: [], always: [] },
  'one without layer descriptors (before 6.13)': { probed: [], always: [layerFds] },
  'one without lowerdir+ (before 6.7)': {
    probed: [{ call: 'fsconfig:SET_STRING', error: 'EINVAL' }],
    always: [layerFds],
  },
  'one without the new mount calls (before 5.2)': {
    probed: [],
    always: missing(
      'fsopen',
      'fsconfig',
      'fsmount',
      'fspick',
      'move_mount',
      'openat2',
      'mount_setattr',
      'statmount',
      'listmount',
      // As old kernels do not tell mount ids by it; the mount id is then taken from /proc.
      'statx',
    ),
  },
  'one whose seccomp filter refuses the new mount calls': {
    probed: [],
    always: [
      'fsopen',
      'fsconfig',
      'fsmount',
      'fspick',
      'move_mount',
      'mount_setattr',
      'statmount',
      'listmount',
    ].map((call): Fault => ({ call, error: 'EPERM' })),
  },
} as const satisfies Record<string, Kernel>;

const loaded = new Map<Kernel, Promise<Library>>();

/** The package as it is on such a kernel; the faults last until the test ends. */
async function libraryOn(kernel: Kernel): Promise<Library> {
  const known = loaded.get(kernel) ?? loadOn(kernel);
  loaded.set(kernel, known);
  const library = await known;
  plan(...kernel.always);
  return library;
}

async function loadOn({ probed, always }: Kernel): Promise<Library> {
  vi.resetModules();
  const fresh = await import('../../lib/index.ts');
  plan(...probed, ...always);
  await fresh.planOverlay({ lower: ['/a', '/b'], target: '/m' });
  clear();
  return fresh;
}

const features = await kernelFeatures();
const own = await ownRung();
const metacopy = features.nativeParser && (await demandsMetacopy('dataOnlyLower'));

const rungs: readonly {
  name: keyof typeof kernels;
  rung: Rung;
  options?: Pick<OverlayOptions, 'mountApi'>;
  tags?: 'slow'[];
}[] = [
  { name: 'this one', rung: own },
  ...(own === 'layer-fds'
    ? [{ name: 'one without layer descriptors (before 6.13)', rung: 'layer-names' } as const]
    : []),
  { name: 'one without lowerdir+ (before 6.7)', rung: 'joined-names', options: { mountApi: 'fsconfig' } },
  { name: 'one without lowerdir+ (before 6.7)', rung: 'mount', tags: ['slow'] },
  { name: 'one without the new mount calls (before 5.2)', rung: 'mount' },
  { name: 'one whose seccomp filter refuses the new mount calls', rung: 'mount', tags: ['slow'] },
];

describePrivileged('support(), behind a seccomp filter', () => {
  scratchOn();
  const filter = 'one whose seccomp filter refuses the new mount calls';

  it('counts on mount(2) where that is let through', async () => {
    const { mount, rungs } = await (await libraryOn(kernels[filter])).support();
    expect(mount.ok).toBe(true);
    expect([rungs['layer-fds'].ok, rungs.mount.ok]).toEqual([false, true]);
  });

  it('says that nothing can be mounted where it is not', async () => {
    const always = [...kernels[filter].always, { call: 'mount', error: 'EPERM' } as const];
    const { mount, rungs, filtered } = await (await libraryOn({ probed: [], always })).support();
    expect(mount).toMatchObject({ ok: false, reason: expect.stringContaining('seccomp') });
    expect(Object.values(rungs).some(({ ok }) => ok)).toBe(false);
    expect(filtered).toEqual(expect.arrayContaining(['fsopen', 'mount']));
  });
});

for (const { name, rung, options = {}, tags = [] } of rungs) {
  describePrivileged(`on a kernel like ${name} (Linux ${release()}), the rung ${rung}`, { tags }, () => {
    const scratch = scratchOn();
    let lib: Library;
    beforeEach(async () => {
      lib = await libraryOn(kernels[name]);
    });

    // On each kernel the descriptors by its own rung.
    const slow = name === 'this one' ? [] : ['by O_RDONLY descriptors', 'by O_PATH descriptors'];
    itTakesEveryName(scratch, () => lib, { ...options, slow });

    it('is the one that is taken, and reported', async () => {
      const { lower, upper, work, target } = scratch.layers();
      await using overlay = await lib.mountOverlay({ lower, upper, work, target, ...options });
      expect(overlay.report.rung).toBe(rung);
      expect(overlay.plan.rungs).toContain(rung);
      writeFileSync(overlay.path('hello'), 'changed');
      expect(readFileSync(`${upper}/hello`, 'utf8')).toBe('changed');
    });

    it('carries every option and flag', async () => {
      const { lower, upper, work, target } = scratch.layers();
      await using overlay = await lib.mountOverlay({
        lower: [lower, scratch.directory('second')],
        upper,
        work,
        target,
        readonly: true,
        index: true,
        redirectDir: 'on',
        mountFlags: { nosuid: true, nodev: true, noexec: true, noatime: true, nodiratime: true },
        ...options,
      });
      const listed = async () => (await lib.listOverlays()).find((one) => one.target === target);
      expect(await listed()).toMatchObject({
        target,
        readonly: true,
        owner: 'own',
        mountFlags: expect.arrayContaining(['nosuid', 'nodev', 'noexec', 'noatime', 'nodiratime']),
        options: { index: 'on', redirect_dir: 'on' },
      });
      await overlay.remount({ readonly: false });
      writeFileSync(`${target}/new`, '');
      expect(await listed()).toMatchObject({
        readonly: false,
        mountFlags: expect.arrayContaining(['nosuid', 'nodev', 'noexec', 'noatime', 'nodiratime']),
      });
    });

    it('carries scratch, an empty lower and data-only layers, and leaves no other mount', async () => {
      const { lower, target } = scratch.layers();
      await using one = await lib.mountOverlay({ lower, scratch: { size: 1n << 20n }, target, ...options });
      writeFileSync(one.path('new'), '');
      await using two = await lib.mountOverlay({
        lower,
        allowSingleLower: true,
        target: scratch.directory('two'),
        ...options,
      });
      expect(readdirSync(two.path())).toEqual(['hello']);
      expect(await privateMounts()).toEqual([]);
      if (!features.nativeParser) return; // nor has such a kernel data-only layers
      scratch.file('data/content');
      await using three = await lib.mountOverlay({
        lower,
        dataOnlyLower: [scratch.path('data')],
        target: scratch.directory('three'),
        ...(metacopy ? { metacopy } : {}),
        ...options,
      });
      expect(readdirSync(three.path())).toEqual(['hello']);
      expect(privateMounts()).toEqual(before);
    });

    it('is unmounted where it has been moved to', async () => {
      const { lower, upper, work, target } = scratch.layers();
      const overlay = await lib.mountOverlay({ lower, upper, work, target, ...options });
      mount('--move', target, scratch.directory('moved'));
      expect(scratch.mounts()).toEqual([scratch.path('moved')]);
      await overlay.unmount();
      expect(scratch.mounts()).toEqual([]);
    });

    it('sees that an upper is in use', async () => {
      const { lower, upper, work, target } = scratch.layers();
      await using _ = await lib.mountOverlay({ lower, upper, work, target, ...options });
      const again = {
        lower,
        upper,
        work: scratch.directory('work2'),
        target: scratch.directory('merged2'),
        ...options,
      };
      await expect(lib.mountOverlay(again)).rejects.toThrow(
        expect.objectContaining({ code: 'ERR_OVERLAY_UPPER_IN_USE' }),
      );
    });

    it('leaves nothing when it fails', async () => {
      const { lower, upper, work, target } = scratch.layers();
      const nowhere = lib.mountOverlay({
        lower: [lower, scratch.path('no')],
        upper,
        work,
        target,
        ...options,
      });
      await expect(nowhere).rejects.toThrow(expect.objectContaining({ code: 'ERR_OVERLAY_LAYER_NOT_FOUND' }));
      const index = lib.mountOverlay({ lower, upper, work: scratch.path('no'), target, ...options });
      await expect(index).rejects.toThrow(expect.objectContaining({ code: 'ERR_OVERLAY_LAYER_NOT_FOUND' }));
      expect([readdirSync(upper), readdirSync(work), readdirSync(target)]).toEqual([[], [], []]);
    });
  });
}

// This file has a mount namespace of its own: what others have left there was there before.
const privateMounts = () => mountPoints().filter((point) => /^\/tmp\/overlayfs-\w{6}$/.test(point));
const before = privateMounts();

describePrivileged('500 lowers', () => {
  const scratch = scratchOn();
  const lowers = (length: number) =>
    Array.from({ length }, (_, i) => scratch.file(`lowers/layer-${i}/from-${i}`).replace(/\/[^/]*$/, ''));
  const shows = (overlay: Overlay, length: number) =>
    expect(readdirSync(overlay.path())).toHaveLength(length);

  it(`are taken by Linux ${release()} by its own rung, ${own}`, async () => {
    const { mountOverlay } = await libraryOn(kernels['this one']);
    await using overlay = await mountOverlay({
      lower: lowers(500),
      scratch: true,
      target: scratch.directory('merged'),
    });
    expect(overlay.report.rung).toBe(own === 'mount' ? 'mount-fd-names' : own);
    shows(overlay, 500);
  });

  it('are taken by name', async (context) => {
    needsKernel(context, features.lowerdirAppend, 'lowerdir+ (6.7)');
    const { mountOverlay } = await libraryOn(kernels['one without layer descriptors (before 6.13)']);
    await using overlay = await mountOverlay({ lower: lowers(500), scratch: true });
    expect(overlay.report.rung).toBe('layer-names');
    shows(overlay, 500);
  });

  it.each(['one without lowerdir+ (before 6.7)', 'one without the new mount calls (before 5.2)'] as const)(
    'are taken by mount(2) as descriptor numbers, on a kernel like %s',
    async (name) => {
      const { mountOverlay } = await libraryOn(kernels[name]);
      const { upper, work, target } = scratch.layers();
      await using overlay = await mountOverlay({ lower: lowers(500), upper, work, target });
      expect(overlay.report).toMatchObject({
        rung: 'mount-fd-names',
        fallbacks: [{ rung: 'mount', reason: expect.stringContaining('bytes of options') }],
      });
      shows(overlay, 500);
    },
  );

  it('are too many for a detached view where layers go in one string of 255 bytes', async () => {
    const { mountOverlay } = await libraryOn(kernels['one without lowerdir+ (before 6.7)']);
    const twelve = lowers(12);
    await using overlay = await mountOverlay({ lower: twelve });
    expect(overlay.report.rung).toBe('joined-names');
    shows(overlay, 12);
    await expect(mountOverlay({ lower: lowers(30) })).rejects.toThrow(
      expect.objectContaining({ code: 'ERR_OVERLAY_NO_DETACHED' }),
    );
  });
});

describePrivileged('the ladder', () => {
  const scratch = scratchOn();

  it('reports each rung that turned out to be missing, with the reason', async (context) => {
    needsKernel(context, features.layerFds !== 'none', 'layers as descriptors (6.13)');
    const lib = await libraryOn(kernels['this one']);
    plan({ call: 'fsconfig:SET_FD', error: 'EOPNOTSUPP' });
    const { lower, upper, work, target } = scratch.layers();
    await using overlay = await lib.mountOverlay({ lower, upper, work, target });
    expect(overlay.report).toMatchObject({
      rung: 'layer-names',
      fallbacks: [
        { rung: 'layer-fds', reason: expect.stringMatching(/^fsconfig\(SET_FD, lowerdir\+=\d+\): ENOTSUP/) },
      ],
    });
  });

  it('gives a readable descriptor where O_PATH ones are refused (6.13)', async (context) => {
    needsKernel(context, features.layerFds === 'path', 'layers as O_PATH descriptors (6.14)');
    const lib = await libraryOn(kernels['this one']);
    plan({ call: 'fsconfig:SET_FD', error: 'EBADF', times: 1 });
    const { lower, upper, work, target } = scratch.layers();
    await using overlay = await lib.mountOverlay({ lower, upper, work, target, checkInUse: false });
    expect(overlay.report.rung).toBe('layer-fds');
  });

  it('does not go down for an overlay that is wrong rather than a rung that is missing', async () => {
    const lib = await libraryOn(kernels['this one']);
    const { lower, upper, target } = scratch.layers();
    const wrong = lib.mountOverlay({ lower, upper, work: upper, target });
    await expect(wrong).rejects.toThrow(
      expect.objectContaining({
        code: 'ERR_OVERLAY_WORK_NOT_SEPARATE',
        syscall: own === 'mount' ? 'mount' : 'fsconfig',
      }),
    );
  });

  it("refuses to go below what mountApi: 'fsconfig' allows", async () => {
    const { lower, target } = scratch.layers();
    const lib = await libraryOn(kernels['one without the new mount calls (before 5.2)']);
    const options: OverlayOptions = { lower, scratch: true, target };
    await expect(lib.mountOverlay({ ...options, mountApi: 'fsconfig' })).rejects.toThrow(
      expect.objectContaining({ code: 'ERR_OVERLAY_MOUNT_API_UNAVAILABLE' }),
    );
    await expect(lib.mountOverlay({ lower, scratch: true })).rejects.toThrow(
      expect.objectContaining({ code: 'ERR_OVERLAY_NO_DETACHED' }),
    );
  });
});
