// @module-tag vm
/** What each option does to a mount, as the kernel shows it. */
import {
  closeSync,
  existsSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import {
  listOverlays,
  type MountedOverlay,
  mountOverlay,
  type OverlayOptions,
  support,
} from '../../lib/index.ts';
import { kernelFeatures } from '../../lib/inspect/kernel.ts';
import { mount, umount } from '../support/commands.ts';
import { describePrivileged, needsKernel, needsOption } from '../support/needs.ts';
import { afterThisTest, type Scratch, scratchOn } from '../support/scratch.ts';

const listed = async (target: string): Promise<MountedOverlay | undefined> =>
  (await listOverlays()).find((one) => one.target === target);

describePrivileged('options of the overlay', () => {
  const scratch = scratchOn();

  it.for<[string, Partial<OverlayOptions>, Record<string, string | true>]>([
    ['index', { index: true }, { index: 'on' }],
    ['nfsExport', { nfsExport: true }, { index: 'on', nfs_export: 'on' }],
    ['redirectDir', { redirectDir: 'on' }, { redirect_dir: 'on' }],
    ['no redirects', { redirectDir: 'nofollow' }, { redirect_dir: 'nofollow' }],
    ['metacopy', { metacopy: true }, { metacopy: 'on', redirect_dir: 'on' }],
    ['userxattr', { userxattr: true }, { userxattr: true, redirect_dir: 'nofollow' }],
    ['uuid', { uuid: 'on' }, { uuid: 'on' }],
    ['no uuid', { uuid: 'null' }, { uuid: 'null' }],
    ['verity', { verity: 'on' }, { verity: 'on' }],
    ['volatile', { volatile: true }, { fsync: 'volatile' }],
    ['what else the kernel knows', { kernelOptions: { fsync: 'strict' } }, { fsync: 'strict' }],
    [
      'a flag that the kernel knows',
      { kernelOptions: { default_permissions: true } },
      { default_permissions: true },
    ],
  ])('are in effect: %s', async ([name, options, shown], context) => {
    if (name === 'no uuid' || name === 'verity') {
      for (const [key, value] of Object.entries(shown)) await needsOption(context, key, String(value));
    }
    if (options.kernelOptions?.fsync) await needsOption(context, 'fsync', 'strict');
    const layers = scratch.layers();
    await using _ = await mountOverlay({ ...layers, ...options });
    const found = (await listed(layers.target))?.options;
    if (name === 'volatile' && found?.volatile === true) return; // as kernels without fsync= show it
    if (name === 'uuid' && (await support()).options.uuid?.auto?.ok === false) return; // it is not shown where it is the default
    expect(found).toMatchObject(shown);
  });

  it('are in effect: xino, across file systems', async () => {
    const { target, ...layers } = scratch.layers();
    mount('-t', 'tmpfs', 'x', layers.lower);
    afterThisTest(() => umount(layers.lower));
    await using _ = await mountOverlay({ ...layers, target, xino: 'on' });
    expect((await listed(target))?.options).toMatchObject({ xino: 'on' });
  });

  it('are none of the module’s own', async () => {
    const module = '/sys/module/overlay/parameters';
    const words = Object.fromEntries(
      readdirSync(module).map((name) => [name, readFileSync(join(module, name), 'utf8').trim()]),
    );
    const changed = ['index', 'metacopy', 'xino_auto', 'nfs_export', 'redirect_dir'].filter(
      (name) => words[name] === 'N',
    );
    const set = (word: string) => {
      for (const name of changed) writeFileSync(join(module, name), word);
    };
    set('Y');
    try {
      const layers = scratch.layers();
      await using _ = await mountOverlay(layers);
      expect((await listed(layers.target))?.options).toMatchObject({
        redirect_dir: 'follow',
        index: 'off',
        metacopy: 'off',
      });
    } finally {
      set('N');
    }
  });

  it('make a directory rename a redirect, and EXDEV without', async () => {
    const layers = scratch.layers();
    scratch.directory('lower/folder');
    const plain = await mountOverlay(layers);
    expect(() => renameSync(plain.path('folder'), plain.path('moved'))).toThrow(/EXDEV/);
    await plain.unmount();
    await using redirecting = await mountOverlay({ ...layers, redirectDir: 'on' });
    renameSync(redirecting.path('folder'), redirecting.path('moved'));
    expect(readdirSync(layers.target)).toEqual(['hello', 'moved']);
  });
});

describePrivileged('scratch', () => {
  const scratch = scratchOn();

  it('holds no more than its size', async () => {
    const { lower, target } = scratch.layers();
    await using overlay = await mountOverlay({ lower, scratch: { size: 1n << 20n }, target });
    expect(() => writeFileSync(overlay.path('big'), Buffer.alloc(2 << 20))).toThrow(/ENOSPC/);
    writeFileSync(overlay.path('big'), 'small');
  });

  it('goes with the mount: nothing of it is left, and the next one is empty', async () => {
    const { lower, target } = scratch.layers();
    const first = await mountOverlay({ lower, scratch: true, target });
    writeFileSync(first.path('new'), '');
    await first.unmount();
    await using second = await mountOverlay({ lower, scratch: true, target });
    expect(readdirSync(second.path())).toEqual(['hello']);
  });
});

describePrivileged('the target', () => {
  const scratch = scratchOn();

  it('is made with mkdirTarget, mode 0755, and removed at unmount', async () => {
    const { target: _, ...layers } = scratch.layers();
    const target = scratch.path('made');
    const overlay = await mountOverlay({ ...layers, target, mkdirTarget: true });
    expect(overlay.report.madeTarget).toBe(true);
    await overlay.unmount();
    expect(existsSync(target)).toBe(false);
  });

  it('is kept with mkdirTarget where it was there before', async () => {
    const layers = scratch.layers();
    const overlay = await mountOverlay({ ...layers, mkdirTarget: true });
    expect(overlay.report.madeTarget).toBe(false);
    await overlay.unmount();
    expect(existsSync(layers.target)).toBe(true);
  });

  it('is kept where something has been put into it meanwhile', async () => {
    const { target: _, ...layers } = scratch.layers();
    const target = scratch.path('made');
    const overlay = await mountOverlay({ ...layers, target, mkdirTarget: true });
    const below = scratch.directory('below');
    mount('--bind', scratch.root, below);
    writeFileSync(join(below, 'made/file'), '');
    umount(below);
    await overlay.unmount();
    expect(readdirSync(target)).toEqual(['file']);
  });

  it('that is a mount point already is stacked on', async () => {
    const { target, ...layers } = scratch.layers();
    mount('-t', 'tmpfs', 'below', target);
    writeFileSync(join(target, 'below'), '');
    afterThisTest(() => umount(target));
    const overlay = await mountOverlay({ ...layers, target });
    expect(readdirSync(target)).toEqual(['hello']);
    await overlay.unmount();
    expect(readdirSync(target)).toEqual(['below']);
  });

  it('may be one of the layers', async () => {
    const { lower, upper, work } = scratch.layers();
    const overlay = await mountOverlay({ lower, upper, work, target: lower });
    writeFileSync(join(lower, 'new'), '');
    expect(readdirSync(upper)).toEqual(['new']);
    await overlay.unmount();
    expect(readdirSync(lower)).toEqual(['hello']);
  });
});

describePrivileged('a read-only overlay', () => {
  const scratch = scratchOn();

  it.each(['auto', 'mount'] as const)(
    'may have an upper, and is made writable later (mountApi: %s)',
    async (mountApi) => {
      const layers = scratch.layers();
      await using overlay = await mountOverlay({ ...layers, readonly: true, mountApi });
      expect(() => writeFileSync(overlay.path('new'), '')).toThrow(/EROFS/);
      expect(await listed(layers.target)).toMatchObject({ readonly: true, mountFlags: [] });
      await overlay.remount({ readonly: false });
      writeFileSync(overlay.path('new'), '');
      expect(await listed(layers.target)).toMatchObject({ readonly: false, mountFlags: [] });
      await overlay.remount({ readonly: true });
      expect(() => writeFileSync(overlay.path('new'), '')).toThrow(/EROFS/);
    },
  );

  it('is not to be had while a file is open for writing', async () => {
    await using overlay = await mountOverlay(scratch.layers());
    const fd = openSync(overlay.path('new'), 'w');
    await expect(overlay.remount({ readonly: true })).rejects.toThrow(
      expect.objectContaining({
        code: 'ERR_OVERLAY_REMOUNT_FAILED',
        errno: -16,
        findings: [expect.objectContaining({ fix: expect.stringContaining('Close') })],
      }),
    );
    closeSync(fd);
    await overlay.remount({ readonly: true });
  });

  it('without an upper cannot be made writable', async () => {
    await using overlay = await mountOverlay({ lower: [scratch.directory('a'), scratch.directory('b')] });
    await expect(overlay.remount({ readonly: false })).rejects.toThrow(
      expect.objectContaining({ code: 'ERR_OVERLAY_REMOUNT_FAILED', errno: -30 }),
    );
  });

  it('can be a detached view, and stays one when it is remounted', async () => {
    const { target: _, ...layers } = scratch.layers();
    await using view = await mountOverlay({ ...layers, readonly: true });
    await view.remount({ readonly: false });
    writeFileSync(view.path('new'), '');
  });
});

describePrivileged('flags of the mount', () => {
  const scratch = scratchOn();
  const all = ['nosuid', 'nodev', 'noexec', 'noatime', 'nodiratime'] as const;

  it.each(['auto', 'mount'] as const)('are in effect (mountApi: %s)', async (mountApi) => {
    for (const flag of [...all, 'strictatime'] as const) {
      const { target, ...layers } = scratch.layers(flag);
      await using _ = await mountOverlay({ ...layers, target, mountFlags: { [flag]: true }, mountApi });
      expect(await listed(target)).toMatchObject({ mountFlags: [flag] });
    }
  });

  it('stay with the mount when it is attached later', async () => {
    const { target, ...layers } = scratch.layers();
    await using view = await mountOverlay({ ...layers, mountFlags: { noexec: true, nosuid: true } });
    await view.attach(target);
    expect((await listed(target))?.mountFlags).toEqual(['nosuid', 'noexec']);
  });
});

describePrivileged('propagation', () => {
  const scratch = scratchOn();

  it.each(['private', 'shared', 'slave', 'unbindable'] as const)(
    'is as it was asked for: %s',
    async (propagation) => {
      const layers = scratch.layers();
      await using _ = await mountOverlay({ ...layers, propagation });
      // A slave of nobody is private.
      const shown = propagation === 'slave' ? 'private' : propagation;
      expect((await listed(layers.target))?.propagation).toEqual([shown]);
    },
  );

  it('of a shared parent brings a copy into its peers, which is reported and goes with ours', async (context) => {
    needsKernel(context, (await kernelFeatures()).statmount, 'statmount(2)');
    const { peer, target, ...layers } = sharedParent(scratch);
    const overlay = await mountOverlay({ ...layers, target });
    expect(overlay.report.propagated).toBe(true);
    expect((await listed(target))?.propagation).toEqual(['private']);
    expect(readdirSync(peer)).toEqual(['hello']);
    await overlay.unmount();
    expect([readdirSync(peer), readdirSync(target)]).toEqual([[], []]);
  });

  it('is reported of a view that is attached below a shared parent', async (context) => {
    needsKernel(context, (await kernelFeatures()).statmount, 'statmount(2)');
    const { peer, target, lower } = sharedParent(scratch);
    await using view = await mountOverlay({ lower, scratch: true });
    await view.attach(target);
    expect(readdirSync(peer)).toEqual(['hello']);
    expect(view.report.propagated).toBe(true);
  });
});

describePrivileged('an abort', () => {
  const scratch = scratchOn();
  const reason = new Error('the caller gave up');

  it('before the call refuses it', async () => {
    const layers = scratch.layers();
    await expect(mountOverlay({ ...layers, signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
    expect([readdirSync(layers.upper), readdirSync(layers.work)]).toEqual([[], []]);
  });

  it('during the call leaves no mount', async () => {
    const layers = scratch.layers();
    const abort = new AbortController();
    const mounting = mountOverlay({ ...layers, signal: abort.signal });
    abort.abort(reason);
    await expect(mounting).rejects.toBe(reason);
    expect(scratch.mounts()).toEqual([]);
    expect(statSync(layers.target).isDirectory()).toBe(true);
  });

  it('after the call changes nothing', async () => {
    const abort = new AbortController();
    await using overlay = await mountOverlay({ ...scratch.layers(), signal: abort.signal });
    abort.abort(reason);
    writeFileSync(overlay.path('new'), '');
  });
});

// A shared mount with a bind mount of it: what is mounted in one appears in the other.
function sharedParent(scratch: Scratch) {
  const [parent, copy] = [scratch.directory('parent'), scratch.directory('copy')];
  mount('-t', 'tmpfs', 'parent', parent);
  mount('--make-shared', parent);
  mount('--bind', parent, copy);
  afterThisTest(() => umount(parent, copy));
  const { lower, upper, work } = scratch.layers();
  return {
    lower,
    upper,
    work,
    target: scratch.directory('parent/target'),
    peer: scratch.path('copy/target'),
  };
}
