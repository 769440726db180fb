// @module-tag vm
/**
 * The capability report: every answer found by trying, with its evidence, and nothing left where it was tried.
 */
import { execFileSync } from 'node:child_process';
import { readdirSync, writeFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { support } from '../../lib/index.ts';
import type { DirectorySupport } from '../../lib/inspect/directory-support.ts';
import { runChild } from '../support/child.ts';
import { mount, umount } from '../support/commands.ts';
import { describePrivileged } from '../support/needs.ts';
import { afterThisTest, describeOn, fileSystems, scratchOn } from '../support/scratch.ts';
import { snapshot } from '../support/snapshot.ts';
import { setXattr } from '../support/xattr.ts';

const probes = [
  'entryTypes',
  'trustedXattr',
  'userXattr',
  'whiteout',
  'renameWhiteout',
  'tmpfile',
  'reflink',
  'fileHandles',
] as const;
const taken = (directory: DirectorySupport | undefined) => probes.filter((probe) => directory?.[probe].ok);

function takesUserXattr(path: string): boolean {
  try {
    setXattr(path, 'user.test');
    return true;
  } catch {
    return false;
  }
}

describeOn(fileSystems, 'support() tells what an upper can do', (scratch, kind) => {
  it('by trying it there, and leaves nothing', async () => {
    const { upper, work, lower } = scratch.layers();
    writeFileSync(`${lower}/file`, '');
    const onTmpfs = takesUserXattr(scratch.directory('other')); // since 6.6
    const before = await snapshot(scratch.root);
    const report = await support({ lower: [lower], upper, work });

    const here: Partial<Record<(typeof probes)[number], boolean>> = {
      reflink: kind === 'xfs' || kind === 'btrfs',
      userXattr: kind !== 'tmpfs' || onTmpfs,
    };
    expect(taken(report.upper)).toEqual(probes.filter((probe) => here[probe] ?? true));
    expect(report.upper).toMatchObject({
      path: upper,
      fileSystem: kind,
      tmpfs: kind === 'tmpfs',
      overlay: false,
      network: false,
      readonly: false,
      idmapped: false,
    });
    expect(report.upper?.room.bytes).toBeGreaterThan(0n);
    // A lower is only read: what would need a file made in it is not claimed.
    const read: readonly string[] = ['entryTypes', 'trustedXattr', 'userXattr', 'fileHandles'];
    expect(taken(report.lower?.[0])).toEqual(
      probes.filter((probe) => read.includes(probe) && (here[probe] ?? true)),
    );
    expect(await snapshot(scratch.root)).toEqual(before);
  });
});

describePrivileged('support()', () => {
  const scratch = scratchOn();

  it('gives a reason and the evidence with each answer', async () => {
    const report = await support({ upper: scratch.directory('upper') });
    const answers = [
      report.mount,
      report.inUseProbe,
      report.userNamespaces.allowed,
      report.userNamespaces.unprivileged,
      ...Object.values(report.rungs),
      ...Object.values(report.features),
      ...Object.values(report.options).flatMap((values) => Object.values(values)),
      ...probes.map((probe) => (report.upper as DirectorySupport)[probe]),
    ];
    for (const answer of answers) {
      expect(answer).toMatchObject({
        ok: expect.any(Boolean),
        reason: expect.stringMatching(/./),
        evidence: expect.stringMatching(/./),
      });
    }
    expect(report.mount.ok).toBe(true);
    expect(report.options.index?.on?.ok).toBe(true);
    expect(report.kernel.release).toBe(execFileSync('uname', ['-r'], { encoding: 'utf8' }).trim());
    expect(Object.keys(report.moduleParameters)).toContain('redirect_dir');
  });

  it('tells a read-only directory and one on an overlay', async () => {
    const [a, b, merged] = ['a', 'b', 'merged'].map((name) => scratch.directory(name));
    mount('-t', 'overlay', 'o', '-o', `lowerdir=${a}:${b}`, merged ?? '');
    afterThisTest(() => umount(merged ?? ''));
    const { upper } = await support({ upper: merged ?? '' });
    expect(upper).toMatchObject({ fileSystem: 'overlay', overlay: true, readonly: true });
    expect(upper?.whiteout).toMatchObject({ ok: false, reason: expect.stringContaining('not tried') });
  });

  it('rejects for a directory that is not there, and for an unknown key', async () => {
    await expect(support({ upper: scratch.path('no') })).rejects.toMatchObject({
      code: 'ERR_OVERLAY_LAYER_NOT_FOUND',
    });
    await expect(support({ work: scratch.file('file') })).rejects.toMatchObject({
      code: 'ERR_OVERLAY_LAYER_NOT_DIRECTORY',
    });
    await expect(support({ target: '/' } as never)).rejects.toMatchObject({ code: 'ERR_INVALID_ARG_VALUE' });
  });

  it('tells a user namespace that the kernel will not say what is in use', async () => {
    const { mount, inUse } = await runChild<{ mount: boolean; inUse: boolean }>(
      `const { mount, inUseProbe } = await overlayfs.support();
       report({ mount: mount.ok, inUse: inUseProbe.ok });`,
      { through: ['unshare', '--user', '--map-root-user', '--mount'] },
    );
    expect({ mount, inUse }).toEqual({ mount: true, inUse: false });
  });

  it('asks anew each time: a directory that is remounted answers otherwise', async () => {
    const upper = scratch.directory('upper');
    mount('-t', 'tmpfs', '-o', 'ro', 'x', upper);
    afterThisTest(() => umount(upper));
    expect((await support({ upper })).upper?.whiteout.ok).toBe(false);
    mount('-o', 'remount,rw', upper);
    expect((await support({ upper })).upper?.whiteout.ok).toBe(true);
  });

  it('leaves no workshop behind in what it was shown', async () => {
    const upper = scratch.directory('upper');
    await Promise.all([support({ upper }), support({ upper }), support({ upper, work: upper })]);
    expect(readdirSync(upper)).toEqual([]);
  });
});
