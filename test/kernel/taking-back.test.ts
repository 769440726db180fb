// @module-tag vm
/**
 * What is taken back when a mount fails, and what must not be: nothing that was there before, nothing that is not ours.
 */
import { existsSync, mkdirSync, readdirSync, rmdirSync, writeFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { binding } from '../../lib/addon.ts';
import { mountOverlay, type OverlayOptions, planOverlay, unmount } from '../../lib/index.ts';
import { runChild } from '../support/child.ts';
import { mount, umount } from '../support/commands.ts';
import { clear, creating, plan } from '../support/faults.ts';
import { describePrivileged } from '../support/needs.ts';
import { afterThisTest, mountPoints, scratchOn } from '../support/scratch.ts';
import { setXattr } from '../support/xattr.ts';

const code = (attempt: Promise<unknown>) =>
  attempt.then(
    () => 'no error',
    (error: { code?: string }) => error.code ?? String(error),
  );

describePrivileged('a mount that fails', () => {
  const scratch = scratchOn();

  it('keeps the attributes of the upper, also where they could not be listed beforehand', async () => {
    const layers = scratch.layers();
    await planOverlay(layers); // what the kernel can do is asked before anything fails
    setXattr(layers.upper, 'trusted.overlay.opaque', 'y');
    plan({ call: 'flistxattr', error: 'EIO', times: 1 }, { call: creating, error: 'ENOMEM', times: 1 });
    expect(await code(mountOverlay({ ...layers, checkInUse: false }))).not.toBe('no error');
    clear();
    // What the kernel added stays then: it cannot be told from what was there.
    const names = (await binding().readXattrs(Buffer.from(layers.upper))).map(([name]) => name.toString());
    expect(names).toContain('trusted.overlay.opaque');
  });

  it('keeps the volatile marker that it was told to remove', async () => {
    const layers = scratch.layers();
    await (await mountOverlay({ ...layers, volatile: true })).unmount();
    const again: OverlayOptions = { ...layers, removeVolatileMarker: true };
    expect(await code(mountOverlay({ ...again, target: scratch.path('missing') }))).toBe(
      'ERR_OVERLAY_TARGET_NOT_FOUND',
    );
    plan({ call: creating, error: 'ENOMEM', times: 1 });
    expect(await code(mountOverlay({ ...again, checkInUse: false }))).toBe('ERR_OVERLAY_NO_MEMORY');
    clear();
    expect(await code(mountOverlay(layers))).toBe('ERR_OVERLAY_VOLATILE_MARKER');
    await (await mountOverlay(again)).unmount();
  });

  it('does not stay because it is busy', async () => {
    const layers = scratch.layers();
    plan({ call: 'mount_setattr', error: 'ENOMEM' }, { call: 'umount2', error: 'EBUSY', times: 1 });
    expect(await code(mountOverlay(layers))).not.toBe('no error');
    clear();
    expect(mountPoints()).not.toContain(layers.target);
  });
});

describePrivileged('an overlay that goes', () => {
  const scratch = scratchOn();

  it('removes the directory that it made, and no other in its place', async () => {
    const [lower, target] = [scratch.layers().lower, scratch.path('made')];
    const overlay = await mountOverlay({ lower, scratch: true, target, mkdirTarget: true });
    const elsewhere = scratch.directory('elsewhere');
    mount('--move', target, elsewhere);
    rmdirSync(target);
    mkdirSync(target);
    await overlay.unmount();
    expect(existsSync(target)).toBe(true);
  });

  it('keeps the volatile marker while a bind mount of it is still written to', async () => {
    const layers = scratch.layers();
    const overlay = await mountOverlay({ ...layers, volatile: true });
    const copy = scratch.directory('copy');
    mount('--bind', layers.target, copy);
    afterThisTest(() => existsSync(copy));
    expect(await code(overlay.unmount({ syncVolatile: true }))).toBe('ERR_OVERLAY_SYNC_FAILED');
    writeFileSync(`${copy}/late`, '');
    umount(copy);
    expect(await code(mountOverlay(layers))).toBe('ERR_OVERLAY_VOLATILE_MARKER');
  });

  it('does not say that it has synced what it has not', async () => {
    const overlay = await mountOverlay({ ...scratch.layers(), volatile: true });
    await overlay.unmount();
    expect(await code(overlay.unmount({ syncVolatile: true }))).toBe('ERR_OVERLAY_NOT_MOUNTED');
  });
});

describePrivileged('what the caller does meanwhile', () => {
  const scratch = scratchOn();

  it('to its own option objects changes nothing', async () => {
    const { lower, upper, work, target } = scratch.layers();
    const kernelOptions: Record<string, string> = {};
    const lowers = [lower, scratch.directory('b')];
    const mounting = mountOverlay({ lower: lowers, target, kernelOptions });
    Object.assign(kernelOptions, { upperdir: upper, workdir: work });
    lowers.length = 0;
    await using overlay = await mounting;
    expect(overlay.plan.upper).toBeUndefined();
    expect(() => writeFileSync(overlay.path('new'), '')).toThrow(/EROFS/);
    expect(readdirSync(upper)).toEqual([]);
  });

  it('by aborting leaves nothing, busy or not', async () => {
    const layers = scratch.layers();
    const abort = new AbortController();
    await planOverlay(layers);
    const mounting = mountOverlay({ ...layers, signal: abort.signal });
    abort.abort(new Error('enough'));
    plan({ call: 'umount2', error: 'EBUSY', times: 1 });
    await expect(mounting).rejects.toThrow('enough');
    expect(mountPoints()).not.toContain(layers.target);
  });
});

describe('the root directory of a process', () => {
  it('is not made read-only by unmount()', async () => {
    await expect(unmount('/')).rejects.toMatchObject({
      code: expect.stringMatching(/NOT_AN_OVERLAY|UNMOUNT_FAILED/),
    });
  });
});

describePrivileged('a handle whose mount a signal has taken away', () => {
  const scratch = scratchOn();

  it('says so, and names no path any more', async () => {
    const { lower } = scratch.layers();
    const said = await runChild<string>(
      `process.on('SIGUSR2', () => {});
       const overlay = await overlayfs.mountOverlay({ lower: ${JSON.stringify(lower)}, scratch: true, unmountOnSignals: ['SIGUSR2'] });
       process.kill(process.pid, 'SIGUSR2');
       await new Promise((resolve) => setTimeout(resolve, 200));
       try { overlay.path(); report('a path'); } catch ({ code }) { report(code); }`,
    );
    expect(said).toBe('ERR_OVERLAY_NOT_MOUNTED');
  });
});

describe('a list of lowers with holes', () => {
  it('is refused with a TypeError', async () => {
    await expect(planOverlay({ lower: new Array<string>(2) })).rejects.toMatchObject({
      code: 'ERR_INVALID_ARG_VALUE',
    });
  });
});
