/** Who keeps a mount busy, through each of the ways that there are. */
import { execFileSync } from 'node:child_process';
import { closeSync, copyFileSync, openSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { type Holder, holders, mountOverlay, type OverlayError, unmount } from '../../lib/index.ts';
import { runChild } from '../support/child.ts';
import { openings } from '../support/directories.ts';
import { waitingCat } from '../support/holding.ts';
import { describePrivileged } from '../support/needs.ts';
import { expectRefusal } from '../support/refusal.ts';
import { afterThisTest, scratchOn } from '../support/scratch.ts';

const mountNamespaceOf = (pid: number | 'self') =>
  BigInt(/\d+/.exec(readlinkSync(`/proc/${pid}/ns/mnt`))?.[0] ?? 0);

/** Without other mount namespaces: a test that runs beside this one may have made one, with a copy of our mount. */
const here = (found: readonly Holder[] = []) =>
  found.filter(({ mountNamespace }) => mountNamespace === undefined);

/** What one process holds, and by which kind if that is asked. */
const heldBy = (found: readonly Holder[], pid: number, kind?: Holder['kind']) =>
  found.filter((holder) => holder.pid === pid && (kind === undefined || holder.kind === kind));

const fileOf = (path: string) => ({ path, pathBytes: Buffer.from(path) });

/** A library that any program can be made to load. */
const libraryOf = () => {
  const { sharedObjects } = process.report.getReport() as unknown as { sharedObjects: string[] };
  return sharedObjects.find((file) => /\/libm[.-]/.test(file)) ?? '';
};

/** Opens a clone of the mount at its first argument as descriptor 7, and becomes the rest. */
const withDetachedClone = `
import ctypes, os, sys
OPEN_TREE_CLONE = 1
fd = ctypes.CDLL(None).syscall(428, -100, os.fsencode(sys.argv[1]), OPEN_TREE_CLONE)
os.dup2(fd, 7)
os.close(fd)
os.execvp(sys.argv[2], sys.argv[2:])
`;

describePrivileged('holders()', () => {
  const scratch = scratchOn('tmpfs');

  const mounted = async () => {
    const overlay = await mountOverlay(scratch.layers());
    afterThisTest(() => overlay.unmount({ timeout: 1000 }));
    return { overlay, target: overlay.path() };
  };

  it('finds nobody on a mount that nobody uses', async () => {
    const { overlay, target } = await mounted();
    expect(here(await holders(overlay))).toEqual([]);
    expect(here(await holders(target))).toEqual([]);
  });

  describe('names the process that holds it, and through what:', () => {
    it('open files, with their paths and what they are open for', async () => {
      const { overlay, target } = await mounted();
      await using shell = await waitingCat(`exec 7<${target}/hello 8>${target}/new 9<>${target}/both`);

      const found = heldBy(await holders(overlay), shell.pid);
      const common = { kind: 'fd', pid: shell.pid, uid: 0, comm: 'cat' };
      expect(found).toEqual([
        { ...common, fd: 7, mode: 'r', ...fileOf(`${target}/hello`) },
        { ...common, fd: 8, mode: 'w', ...fileOf(`${target}/new`) },
        { ...common, fd: 9, mode: 'rw', ...fileOf(`${target}/both`) },
      ]);
      expect(heldBy(await holders(target), shell.pid)).toEqual(found);
    });

    it('a file of this very process, and one that is open for neither reading nor writing', async () => {
      const { overlay, target } = await mounted();
      const fd = openSync(join(target, 'hello'), openings.O_PATH);
      try {
        const [holder, ...others] = here(await holders(overlay));
        expect(others).toEqual([]);
        expect(holder).toMatchObject({ kind: 'fd', pid: process.pid, fd, path: `${target}/hello` });
        expect(holder?.mode).toBeUndefined();
      } finally {
        closeSync(fd);
      }
    });

    it('a file that has been removed, and names that are not UTF-8', async () => {
      const { overlay, target } = await mounted();
      await using shell = await waitingCat(
        `exec 7>${target}/gone; rm ${target}/gone; exec 8>${target}/$(printf 'a\\377\\nb')`,
      );
      const [gone, odd] = heldBy(await holders(overlay), shell.pid);
      expect(gone?.path).toBe(`${target}/gone (deleted)`);
      expect(odd?.path).toBe(`${target}/a\\xff\nb`);
      expect(odd?.pathBytes).toEqual(Buffer.from(`${target}/a\xff\nb`, 'latin1'));
    });

    it('the current directory', async () => {
      const { overlay, target } = await mounted();
      await using shell = await waitingCat(`mkdir ${target}/sub; cd ${target}/sub`);
      expect(heldBy(await holders(overlay), shell.pid)).toEqual([
        { kind: 'cwd', pid: shell.pid, uid: 0, comm: 'cat', ...fileOf(`${target}/sub`) },
      ]);
    });

    it('the root directory', async () => {
      const overlay = await mountOverlay({
        lower: '/',
        scratch: true,
        target: scratch.directory('merged'),
      });
      afterThisTest(() => overlay.unmount({ timeout: 1000 }));
      await using shell = await waitingCat('', ['chroot', overlay.path()]);

      const found = await holders(overlay);
      expect(heldBy(found, shell.pid, 'root')).toMatchObject([{ path: overlay.path() }]);
      expect(heldBy(found, shell.pid, 'cwd')).toMatchObject([{ path: overlay.path() }]);
      expect(heldBy(found, shell.pid, 'exe')[0]?.path).toMatch(/\/cat$/);
      const maps = heldBy(found, shell.pid, 'map').map(({ path }) => path);
      expect(maps).toContainEqual(expect.stringMatching(/libc/));
      expect(new Set(maps).size).toBe(maps.length);
    });

    it('the running program', async () => {
      const { overlay, target } = await mounted();
      copyFileSync('/bin/cat', join(target, 'cat'));
      await using shell = await waitingCat(`PATH=${target}:$PATH`);
      expect(heldBy(await holders(overlay), shell.pid)).toEqual([
        { kind: 'exe', pid: shell.pid, uid: 0, comm: 'cat', ...fileOf(`${target}/cat`) },
      ]);
    });

    it('a mapped file, of the upper and of a lower', async () => {
      const library = libraryOf();
      copyFileSync(library, scratch.file('lower/lower.so'));
      const { overlay, target } = await mounted();
      copyFileSync(library, join(target, 'upper.so'));
      for (const name of ['lower.so', 'upper.so']) {
        await using shell = await waitingCat(`export LD_PRELOAD=${target}/${name}`);
        expect(heldBy(await holders(overlay), shell.pid)).toEqual([
          { kind: 'map', pid: shell.pid, uid: 0, comm: 'cat', ...fileOf(`${target}/${name}`) },
        ]);
      }
    });

    it('a mount on top of it, and one below it', async () => {
      const { overlay, target } = await mounted();
      const below = scratch.directory('merged/below');
      execFileSync('mount', ['-t', 'tmpfs', 'below', below]);
      execFileSync('mount', ['-t', 'tmpfs', 'on top', target]);
      afterThisTest(() => {
        execFileSync('umount', [target]);
        execFileSync('umount', [below]);
      });
      expect(here(await holders(overlay))).toEqual([
        { kind: 'mount', ...fileOf(below) },
        { kind: 'mount', ...fileOf(target) },
      ]);
      expect(here(await holders(target))).toEqual([]); // the path leads to the one on top
    });

    it('the same superblock in another mount namespace, and the processes in it', async () => {
      const { overlay, target } = await mounted();
      await using shell = await waitingCat(`cd ${target}`, ['unshare', '--mount']);
      await using other = await waitingCat('', ['nsenter', '--target', `${shell.pid}`, '--mount']);

      const found = await holders(overlay);
      const mountNamespace = mountNamespaceOf(shell.pid);
      const pids = [shell.pid, other.pid].sort((a, b) => a - b);
      expect(mountNamespace).not.toBe(mountNamespaceOf('self'));
      expect(found.filter((holder) => holder.mountNamespace === mountNamespace)).toEqual([
        { kind: 'cwd', pid: shell.pid, uid: 0, comm: 'cat', mountNamespace, ...fileOf(target) },
        { kind: 'namespace', pid: pids[0], uid: 0, comm: 'cat', mountNamespace, pids, ...fileOf(target) },
      ]);
    });

    it('a file on a detached copy of the mount', async () => {
      const { overlay, target } = await mounted();
      await using shell = await waitingCat('exec 8</proc/self/fd/7/hello', [
        'python3',
        '-c',
        withDetachedClone,
        target,
      ]);
      const common = { kind: 'detached-fd', pid: shell.pid, uid: 0, comm: 'cat' };
      expect(here(await holders(overlay))).toEqual([
        { ...common, fd: 7, ...fileOf('/') },
        { ...common, fd: 8, mode: 'r', ...fileOf('/hello') },
      ]);
    });

    it('a detached view: this process, and another that has a file of its lower open', async () => {
      // The scratch upper is another file system than the lower: st_dev is then neither's, nor the overlay's.
      await using view = await mountOverlay({ lower: scratch.layers().lower, scratch: true });
      await using shell = await waitingCat(`exec 7</proc/${process.pid}/fd/${view.fd}/hello`);
      const found = await holders(view);
      expect(heldBy(found, process.pid)).toMatchObject([{ kind: 'detached-fd', fd: view.fd, path: '/' }]);
      expect(heldBy(found, shell.pid)).toMatchObject([{ kind: 'detached-fd', fd: 7, path: '/hello' }]);
      expect(here(found)).toHaveLength(2);
    });
  });

  it('does not count what is open elsewhere: in a layer, or through a bind mount', async () => {
    const { overlay, target } = await mounted();
    const bound = scratch.directory('bound');
    execFileSync('mount', ['--bind', target, bound]);
    try {
      await using shell = await waitingCat(`cd ${bound}; exec 7<${scratch.path('lower/hello')} 8<hello`);
      expect(here(await holders(overlay))).toEqual([]);
      expect(heldBy(await holders(bound), shell.pid).map(({ kind }) => kind)).toEqual(['cwd', 'fd']);
    } finally {
      execFileSync('umount', [bound]);
    }
  });

  it('serves any mount, not only overlays', async () => {
    const point = scratch.directory('tmpfs');
    execFileSync('mount', ['-t', 'tmpfs', 'other', point]);
    try {
      await using shell = await waitingCat(`exec 7>${point}/file`);
      expect(heldBy(await holders(point), shell.pid)).toMatchObject([{ kind: 'fd', mode: 'w' }]);
    } finally {
      execFileSync('umount', [point]);
    }
  });

  // The sanitized run cannot follow: its runtime is preloaded, and is dropped with the privilege.
  it.skipIf(process.env.LD_PRELOAD !== undefined)(
    'shows an ordinary user his own processes, and says what he cannot see',
    async () => {
      const { target } = await mounted();
      copyFileSync(libraryOf(), join(target, 'mapped.so'));
      await using shell = await waitingCat(`exec 7<${target}/hello`);
      const { pid, found, unseen } = await runChild<{
        pid: number;
        found: Holder[];
        unseen: { what: string[]; why: string; pids: number[] }[];
      }>(
        `import { openSync } from 'node:fs';
       const fd = openSync('${target}/hello');
       const found = await overlayfs.holders('${target}');
       report({ pid: process.pid, found: [...found], unseen: found.unseen });`,
        {
          through: ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups'],
          env: { LD_PRELOAD: `${target}/mapped.so` },
        },
      );
      expect(here(found).filter((holder) => holder.pid === pid)).toMatchObject([
        { kind: 'fd', uid: 65534, mode: 'r', path: `${target}/hello` },
        { kind: 'map', uid: 65534, path: `${target}/mapped.so` },
      ]);
      expect(found.map((holder) => holder.pid)).not.toContain(shell.pid);
      expect(unseen).toHaveLength(1);
      expect(unseen[0]).toMatchObject({
        what: ['fd', 'cwd', 'root', 'exe', 'map', 'namespace'],
        why: 'EACCES',
        pids: expect.arrayContaining([shell.pid, process.pid]),
      });
      expect(unseen[0]?.pids).not.toContain(pid);
    },
  );

  it('says that a /proc of an inner pid namespace does not list those outside', async () => {
    const { target } = await mounted();
    await using _ = await waitingCat(`exec 7<${target}/hello`);
    const unseen = await runChild(
      `report((await overlayfs.holders('${target}')).unseen.filter(({ why }) => why !== 'EACCES'));`,
      { through: ['unshare', '--pid', '--fork', '--mount-proc'] },
    );
    expect(unseen).toMatchObject([{ why: 'pid-namespace', pids: [] }]);
  });

  describe('refuses', () => {
    it('a path that is no mount, as it refuses a mount that is gone', async () => {
      const { lower } = scratch.layers();
      await expectRefusal(scratch, 'ERR_OVERLAY_NOT_MOUNTED', () => holders(lower));
      await expectRefusal(scratch, 'ERR_OVERLAY_NOT_MOUNTED', () => holders(join(lower, 'hello')));
      const overlay = await mountOverlay(scratch.layers());
      await overlay.unmount();
      await expectRefusal(scratch, 'ERR_OVERLAY_NOT_MOUNTED', () => holders(overlay));
      await expectRefusal(scratch, 'ERR_OVERLAY_NOT_MOUNTED', () => holders({ mountId: 1n << 50n }));
    });

    it('a path that leads nowhere', async () => {
      const { lower } = scratch.layers();
      const missing = await expectRefusal(scratch, 'ERR_OVERLAY_TARGET_NOT_FOUND', () =>
        holders(scratch.path('missing')),
      );
      expect(missing).toMatchObject({ syscall: 'openat', path: scratch.path('missing') });
      await expectRefusal(scratch, 'ERR_OVERLAY_TARGET_UNREACHABLE', () =>
        holders(join(lower, 'hello/below')),
      );
      await expectRefusal(scratch, 'ERR_OVERLAY_EMPTY_PATH', () => holders(''));
    });

    it.each([
      ['a number', 3],
      ['an id that is no bigint', { mountId: 3 }],
      ['an id that is negative', { mountId: -1n }],
      ['a descriptor that is none', { mountId: 3n, fd: -1 }],
      ['a NUL byte', '/tmp/\0'],
    ])('%s', async (_, target) => {
      await expect(holders(target as string)).rejects.toMatchObject({ code: 'ERR_INVALID_ARG_VALUE' });
    });
  });

  describe('speaks in errors:', () => {
    const refused = (attempt: Promise<unknown>) =>
      attempt.then(
        () => expect.unreachable('it must fail'),
        (error: OverlayError) => error,
      );

    it('ERR_OVERLAY_BUSY names who holds the mount', async () => {
      const { overlay, target } = await mounted();
      await using shell = await waitingCat(`cd ${target}; exec 7>${target}/new`);
      for (const attempt of [
        () => overlay.unmount({ timeout: 20 }),
        () => unmount(target, { timeout: 20 }),
      ]) {
        const error = await refused(attempt());
        expect(error.code).toBe('ERR_OVERLAY_BUSY');
        expect(here(error.holders)).toMatchObject([
          { kind: 'cwd', pid: shell.pid },
          { kind: 'fd', pid: shell.pid, mode: 'w' },
        ]);
        expect(error.findings[0]?.detail).toContain(
          `${target} is busy: pid ${shell.pid} (cat): current directory ${target}; ` +
            `pid ${shell.pid} (cat): open file ${target}/new for writing`,
        );
      }
    });

    it('ERR_OVERLAY_BUSY counts what it does not name, and tells a mount below and this process', async () => {
      const { overlay, target } = await mounted();
      const below = scratch.directory('merged/below');
      execFileSync('mount', ['-t', 'tmpfs', 'below', below]);
      const fds = [1, 2, 3].map(() => openSync(join(target, 'hello'), 'r'));
      try {
        const { findings, holders: found } = await refused(overlay.unmount({ timeout: 0 }));
        expect(here(found)).toHaveLength(4);
        const ours = `pid ${process.pid} (${found?.[1]?.comm}, this process): open file ${target}/hello for reading`;
        expect(findings[0]?.detail).toContain(
          `${target} is busy: another mount at ${below}; ${ours}; ${ours}; and `,
        );
      } finally {
        for (const fd of fds) closeSync(fd);
        execFileSync('umount', [below]);
      }
    });

    it('an upper or work in use comes with the overlay that uses it, and who holds that', async () => {
      const { overlay, target } = await mounted();
      await using shell = await waitingCat(`cd ${target}`);
      const { upper, work } = overlay.plan as { upper: string; work: string };
      const fresh = scratch.layers('fresh');
      for (const [options, code, role] of [
        [{ ...fresh, upper, work }, 'ERR_OVERLAY_UPPER_IN_USE', `the upper ${upper}`],
        [{ ...fresh, work }, 'ERR_OVERLAY_WORK_IN_USE', `the work ${work}`],
      ] as const) {
        const error = await refused(mountOverlay(options));
        expect(error.code).toBe(code);
        expect(here(error.holders)).toMatchObject([
          { kind: 'mount', path: target },
          { kind: 'cwd', pid: shell.pid },
        ]);
        expect(error.findings[0]?.detail).toContain(
          `${role} is in use by the overlay mounted at ${target}; ` +
            `pid ${shell.pid} (cat): current directory ${target}`,
        );
      }
    });
  });
});
