/** Whichever system call of a rename fails, and whenever: done, not done at all, or half done and said so. */
import { readdirSync } from 'node:fs';
import { expect, it } from 'vitest';
import { mountOverlay } from '../../lib/index.ts';
import { buildTree, seeTree, type TreeEntry } from '../support/described-tree.ts';
import { clear, plan } from '../support/faults.ts';
import { describePrivileged } from '../support/needs.ts';
import { scratchOn } from '../support/scratch.ts';

const tree: readonly TreeEntry[] = [
  {
    path: 'file',
    type: 'file',
    content: 'text',
    mode: 0o4755,
    owner: [1, 2],
    xattrs: { 'security.capability': '0100000200200000000000000000000000000000' },
  },
  { path: 'sub', type: 'directory' },
  { path: 'sub/hard', type: 'link', content: 'file' },
  { path: 'sub/link', type: 'symlink', content: '../file' },
  { path: 'sub/fifo', type: 'fifo' },
  { path: 'sub/socket', type: 'socket' },
];

const calls = [
  ...[
    'openat2',
    'openat',
    'renameat2',
    'fstatat',
    'fstatfs',
    'statx',
    'getdents64',
    'flock',
    'mkdirat',
    'write',
  ],
  ...[
    'fremovexattr',
    'fchmod',
    'chmod',
    'faccessat',
    'socket',
    'connect',
    'copy_file_range',
    'linkat',
    'symlinkat',
  ],
  ...[
    'readlinkat',
    'mknodat',
    'fchownat',
    'flistxattr',
    'fgetxattr',
    'fsetxattr',
    'listxattr',
    'utimensat',
    'syncfs',
  ],
  ...['unlinkat'],
];

describePrivileged('a system call of rename() that fails once', () => {
  const scratch = scratchOn();

  it.each(calls)('(%s) leaves all, nothing, or what it says', async (call) => {
    const codes = new Set<string | undefined>();
    for (let skip = 0, fired = true; fired && skip < 80; skip++) {
      const layers = scratch.layers(`${skip}`);
      await buildTree(scratch.directory(`${skip}/lower/from`), tree);
      await using overlay = await mountOverlay(layers);
      const before = await seeTree(overlay.path());
      plan({ call, error: 'EIO', skip, times: 1 });
      const error = await overlay.rename('from', 'to').then(
        () => undefined,
        (reason: NodeJS.ErrnoException) => reason,
      );
      clear();
      const after = await seeTree(overlay.path());
      codes.add(error?.code);
      if (error === undefined || error.code === 'ERR_OVERLAY_RENAME_HALF_DONE') {
        expect({ skip, ...pick(after, 'to') }).toEqual({ skip, ...pick(before, 'from') });
      } else {
        // Where it cannot be told when the directory above was changed, its time is not set back either.
        if (call === 'fstatat') for (const tree of [before, after]) delete tree['.'];
        expect({ skip, ...after }).toEqual({ skip, ...before });
      }
      if (error === undefined) expect(readdirSync(overlay.path()).sort()).toEqual(['hello', 'to']);
      // Past the last call of its name, nothing fails; some failures do no harm, such as those of looking for stale copies.
      fired = error !== undefined || skip < 12;
    }
    expect(codes).toContain(undefined);
  });

  it('is told beside what could not be taken back', async () => {
    const layers = scratch.layers();
    await buildTree(scratch.directory('lower/from'), tree);
    await using overlay = await mountOverlay(layers);
    plan({ call: 'syncfs', error: 'EIO', times: 1 }, { call: 'unlinkat', error: 'EROFS', times: 1 });
    const error = await overlay.rename('from', 'to').catch((reason) => reason);
    clear();
    expect(error).toBeInstanceOf(AggregateError);
    expect(error.errors).toMatchObject([
      { code: 'EIO', syscall: 'syncfs' },
      { code: 'EROFS', syscall: 'unlinkat' },
    ]);
    const [left = ''] = readdirSync(overlay.path()).filter((name) => name.startsWith('.overlayfs-rename-'));
    expect(error.errors[1].path).toBe(left);
    // The next one clears it up.
    await overlay.rename('from', 'to');
    expect(readdirSync(overlay.path()).sort()).toEqual(['hello', 'to']);
  });

  it('names what remains, once it cannot go back, and removes all else', async () => {
    const layers = scratch.layers();
    await buildTree(scratch.directory('lower/from'), tree);
    await using overlay = await mountOverlay(layers);
    plan({ call: 'unlinkat', error: 'EIO', times: 1, skip: 1 });
    const error = await overlay.rename('from', 'to').catch((reason) => reason);
    expect(error).toMatchObject({ code: 'ERR_OVERLAY_RENAME_HALF_DONE', path: 'from/sub/fifo', dest: 'to' });
    expect(error.message).toContain('from/sub/fifo');
    expect(Object.keys(await seeTree(overlay.path('from'))).sort()).toEqual(['.', 'sub', 'sub/fifo']);
  });

  it('copies without FICLONE, and without openat2(2)', async () => {
    for (const call of ['ioctl:FICLONE', 'openat2', 'copy_file_range']) {
      const layers = scratch.layers(call);
      await buildTree(scratch.directory(`${call}/lower/from`), tree);
      await using overlay = await mountOverlay(layers);
      const before = await seeTree(overlay.path('from'));
      plan({ call, error: 'ENOSYS' });
      await overlay.rename('from', 'to');
      clear();
      expect(await seeTree(overlay.path('to'))).toEqual(before);
    }
  });
});

function pick(seen: Awaited<ReturnType<typeof seeTree>>, top: string) {
  return Object.fromEntries(
    Object.entries(seen)
      .filter(([path]) => path === top || path.startsWith(`${top}/`))
      // What is left of the original shares no file with the copy.
      .map(([path, entry]) => [
        path.slice(top.length),
        { ...entry, links: entry.links.map((other) => other.slice(top.length)) },
      ]),
  );
}
