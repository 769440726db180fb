// @module-tag vm
/** A view that no path leads to. */
import { spawnSync } from 'node:child_process';
import { constants, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { listOverlays, mountOverlay } from '../../lib/index.ts';
import { runChild } from '../support/child.ts';
import { describePrivileged } from '../support/needs.ts';
import { scratchOn } from '../support/scratch.ts';

describePrivileged('a detached view', () => {
  const scratch = scratchOn();

  it('is in no mount table, and reached through its descriptor', async () => {
    const { lower, upper, work } = scratch.layers();
    await using view = await mountOverlay({ lower, upper, work });
    expect(view.target).toBeUndefined();
    expect(view.targetBytes).toBeUndefined();
    expect(view.path('a', 'b')).toBe(`/proc/self/fd/${view.fd}/a/b`);
    expect(readFileSync(view.path('hello'), 'utf8')).toBe('from the lower');
    writeFileSync(view.path('new'), 'text');
    expect(readFileSync(`${upper}/new`, 'utf8')).toBe('text');
    expect(scratch.mounts()).toEqual([]);
    expect((await listOverlays()).filter(({ owner }) => owner === 'own')).toEqual([]);
  });

  it('is shared with a child that inherits the descriptor', async () => {
    const { lower } = scratch.layers();
    await using view = await mountOverlay({ lower, scratch: true });
    const script = 'cat /proc/self/fd/3/hello; echo changed > /proc/self/fd/3/hello';
    const { stdout } = spawnSync('sh', ['-euc', script], {
      stdio: ['ignore', 'pipe', 'inherit', view.fd],
      encoding: 'utf8',
    });
    expect(stdout).toBe('from the lower');
    expect(readFileSync(view.path('hello'), 'utf8')).toBe('changed\n');
  });

  it('is attached later, and has a target from then on', async () => {
    const { lower, target } = scratch.layers();
    const view = await mountOverlay({ lower, scratch: true });
    writeFileSync(view.path('new'), '');
    await view.attach(target);
    expect([view.target, view.fd, view.path('new')]).toEqual([target, undefined, `${target}/new`]);
    expect(readdirSync(target)).toEqual(['hello', 'new']);
    expect((await listOverlays()).find((one) => one.target === target)).toMatchObject({
      owner: 'own',
      mountId: view.mountId,
    });
    await view.unmount();
    expect(readdirSync(target)).toEqual([]);
  });

  it('is attached with mkdirTarget to a directory that is removed again', async () => {
    const { lower } = scratch.layers();
    const view = await mountOverlay({ lower, scratch: true });
    await view.attach(scratch.path('made'), { mkdirTarget: true });
    expect(view.report.madeTarget).toBe(true);
    await view.unmount();
    expect(readdirSync(scratch.root)).not.toContain('made');
  });

  it('frees its upper when it is closed', async () => {
    const { target: _, ...layers } = scratch.layers();
    const view = await mountOverlay(layers);
    await view.unmount();
    await using again = await mountOverlay(layers);
    expect(again.fd).toBeGreaterThan(0);
  });

  it('cannot be used once it is unmounted', async () => {
    const view = await mountOverlay({ lower: scratch.layers().lower, scratch: true });
    await view.unmount();
    await view.unmount();
    const gone = expect.objectContaining({ code: 'ERR_OVERLAY_NOT_MOUNTED' });
    expect(() => view.path()).toThrow(gone);
    expect(() => view.layers()).toThrow(gone);
    await expect(view.open('hello')).rejects.toThrow(gone);
    await expect(view.openRoot()).rejects.toThrow(gone);
    await expect(view.attach(scratch.path('merged'))).rejects.toThrow(gone);
    await expect(view.remount({ readonly: true })).rejects.toThrow(gone);
  });

  it('is opened with openat2(2), never outside, and takes open() flags as numbers', async () => {
    const { lower } = scratch.layers();
    await using view = await mountOverlay({ lower, scratch: true });
    await using file = await view.open('new', constants.O_CREAT | constants.O_RDWR);
    await file.write('text');
    expect(readFileSync(view.path('new'), 'utf8')).toBe('text');
    await expect(view.open('../../etc/passwd')).rejects.toThrow(expect.objectContaining({ code: 'ENOENT' }));
  });

  it('goes with a process that is killed', async () => {
    const { lower, upper, work } = scratch.layers();
    const killed = runChild(
      `const [lower, upper, work] = process.argv.slice(-3);
       await overlayfs.mountOverlay({ lower, upper, work });
       process.kill(process.pid, 'SIGKILL');`,
      { args: [lower, upper, work] },
    );
    await expect(killed).rejects.toThrow(/reported nothing/);
    await using again = await mountOverlay({ lower, upper, work });
    expect(again.report.unverified).toEqual([]);
  });
});

describePrivileged('inside a user namespace', () => {
  const scratch = scratchOn();

  it('an overlay is mounted with user attributes, and says what it could not find out', async () => {
    const { lower, upper, work, target } = scratch.layers();
    const said = await runChild(
      `const [lower, upper, work, target] = process.argv.slice(-4);
       const overlay = await overlayfs.mountOverlay({ lower, upper, work, target });
       const fs = await import('node:fs');
       fs.writeFileSync(overlay.path('hello'), 'changed');
       report({ options: overlay.plan.options, unverified: overlay.report.unverified.map(({ code }) => code) });
       await overlay.unmount();`,
      { through: ['unshare', '--user', '--map-root-user', '--mount'], args: [lower, upper, work, target] },
    );
    expect(said).toEqual({
      options: {
        redirect_dir: 'nofollow',
        index: 'off',
        nfs_export: 'off',
        xino: 'off',
        metacopy: 'off',
        userxattr: true,
      },
      unverified: ['WARN_OVERLAY_IN_USE_UNKNOWN'],
    });
    expect(readFileSync(`${upper}/hello`, 'utf8')).toBe('changed');
  });
});
