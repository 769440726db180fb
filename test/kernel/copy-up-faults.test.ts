/** Every way to copy data, and every system call of a copy-up that fails. */
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync, statSync, truncateSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { type CopyUpResult, copyUp, type LayerStack } from '../../lib/index.ts';
import { clear, type Fault, plan } from '../support/faults.ts';
import { describeOn, fileSystems } from '../support/scratch.ts';
import { xattrs } from '../support/snapshot.ts';
import { setXattrs } from '../support/xattr.ts';

const one = async (stack: LayerStack, path: string): Promise<CopyUpResult | undefined> =>
  (await copyUp(stack, path, { concurrency: 1 }))[0];

const noClone: Fault = { call: 'ioctl:FICLONE', error: 'EOPNOTSUPP' };
const noRange: Fault = { call: 'copy_file_range', error: 'EXDEV' };
const noSendfile: Fault = { call: 'sendfile', error: 'EINVAL' };

describeOn(fileSystems, 'the data of a file', (scratch, kind) => {
  it('is cloned where it can be', async () => {
    const { lower, upper, work } = scratch.layers();
    const clones = kind === 'xfs' || kind === 'btrfs';
    expect(await one({ lower, upper, work }, 'hello')).toMatchObject({
      method: clones ? 'clone' : 'copy_file_range',
      cloned: clones,
      bytes: 14n,
    });
  });

  it.each([
    ['copy_file_range', [noClone]],
    ['sendfile', [noClone, noRange]],
    ['read-write', [noClone, noRange, noSendfile]],
    ['read-write', [noClone, { call: 'copy_file_range', error: 'EOPNOTSUPP', skip: 1 }, noSendfile]],
    ['copy_file_range', [noClone, { call: 'copy_file_range', error: 'EINTR', times: 3 }]],
    ['sendfile', [noClone, noRange, { call: 'lseek', error: 'EINVAL', times: 1 }]],
  ] as const)('gets there by %s, holes and all', async (method, faults) => {
    const { lower, upper, work } = scratch.layers();
    const content = Buffer.alloc((1 << 20) + 12345, 'pattern');
    writeFileSync(join(lower, 'file'), content);
    truncateSync(join(lower, 'file'), 8 << 20);
    writeFileSync(join(lower, 'file'), 'end', { flag: 'a' });
    plan(...faults);
    const result = await one({ lower, upper, work }, 'file');
    clear();
    expect(result).toMatchObject({ method, cloned: false });
    const copy = join(upper, 'file');
    expect(readFileSync(copy).equals(readFileSync(join(lower, 'file')))).toBe(true);
    const blind = faults.some(({ call }) => call === 'lseek');
    if (!blind) expect(statSync(copy).blocks * 512).toBeLessThan(4 << 20);
  });
});

describeOn(['tmpfs'], 'a copy-up of which a system call fails', (scratch) => {
  const calls = [
    'openat',
    'openat2',
    'statx',
    'fstatat',
    'fcntl',
    'mkdirat',
    'linkat',
    'symlinkat',
    'mknodat',
    'renameat2',
    'fchownat',
    'fchmod',
    'chmod',
    'utimensat',
    'flistxattr',
    'listxattr',
    'fgetxattr',
    'getxattr',
    'fsetxattr',
    'setxattr',
    'name_to_handle_at',
    'getdents64',
    'readlinkat',
    'syncfs',
    'flock',
    'ftruncate',
    'lseek',
    'write',
  ];

  it.each(calls)('(%s) says so, or does without, and leaves nothing half-done', async (call) => {
    for (let skip = 0; skip < 24; skip++) {
      const name = `${call}-${skip}`;
      const { lower, upper, work } = scratch.layers(name);
      scratch.file(`${name}/lower/d/file`, 'content');
      truncateSync(scratch.file(`${name}/lower/holes`), 1 << 20);
      execFileSync('sh', ['-c', 'ln -s x link; mkfifo fifo'], { cwd: lower });
      plan({ call, error: 'EIO', skip, times: 1 });
      const outcome = await Promise.resolve(
        copyUp({ lower, upper, work }, '/', { recursive: true, concurrency: 1 }),
      ).catch((reason: unknown) => reason);
      clear();
      if (outcome instanceof Error) expect(outcome.message).toMatch(/EIO|i\/o error|ERR_OVERLAY/);
      expect(readdirSync(work)).toEqual([]);
      for (const file of ['hello', 'd/file', 'holes']) {
        const [copy, source] = [upper, lower].map((layer) => {
          try {
            return readFileSync(join(layer, file));
          } catch {
            return undefined;
          }
        });
        if (copy !== undefined) expect(source?.equals(copy), `${name} ${file}`).toBe(true);
      }
      if (!(outcome instanceof Error)) break;
    }
  });

  it('leaves a metacopy file as it was when its data cannot be copied', async () => {
    const { lower, upper, work } = scratch.layers();
    const content = join(lower, 'program');
    for (const [start, text] of [
      [0, 'first'],
      [4 << 20, 'second'],
    ] as const) {
      execFileSync(
        'dd',
        [`of=${content}`, 'conv=notrunc', 'oflag=seek_bytes', `seek=${start}`, 'status=none'],
        { input: text },
      );
    }
    const file = scratch.file('upper/program', '');
    truncateSync(file, statSync(content).size);
    // Version 2 (VFS_CAP_REVISION_2), effective: CAP_NET_RAW.
    const capability = Buffer.from([1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    setXattrs([file, 'security.capability', capability], [file, 'trusted.overlay.metacopy', '']);
    utimesSync(file, 1e9, 1e9);
    const state = async () => {
      const { mtimeMs, mode, blocks } = statSync(file);
      return { mtimeMs, mode, blocks, xattrs: await xattrs(file) };
    };
    const before = await state();
    const stack = { lower, upper, work, metacopy: true };
    plan(noClone, { call: 'copy_file_range', error: 'ENOSPC', skip: 1 });
    await expect(one(stack, 'program')).rejects.toMatchObject({ code: 'ENOSPC' });
    clear();
    expect(await state()).toEqual(before);
    expect(await one(stack, 'program')).toMatchObject({ method: 'copy_file_range', bytes: 4102n });
    expect(readFileSync(file).equals(readFileSync(content))).toBe(true);
  });
});
