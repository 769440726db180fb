/** What can be wrong with layers, paths and disks when files are copied up without a mount. */
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { type CopyUpResult, copyUp, type LayerStack, mountOverlay, whichLayer } from '../../lib/index.ts';
import { importTypeScript, runChild } from '../support/child.ts';
import { countFiles, digTree } from '../support/deep-tree.ts';
import { expectRefusal } from '../support/refusal.ts';
import { afterThisTest, describeOn, type Scratch } from '../support/scratch.ts';
import { xattrs } from '../support/snapshot.ts';

const all = async (
  stack: LayerStack,
  paths: string | string[],
  options = {},
): Promise<readonly CopyUpResult[]> => copyUp(stack, paths, options);

function mount(point: string, ...args: string[]): string {
  mkdirSync(point, { recursive: true });
  execFileSync('mount', [...args, point]);
  afterThisTest(() => execFileSync('umount', [point]));
  return point;
}

const setXattr = (path: string, name: string, value: string) =>
  execFileSync('python3', ['-c', `import os, sys; os.setxattr(*sys.argv[1:3], b'${value}')`, path, name]);

/** Three layers on the scratch file system. */
function layers(scratch: Scratch) {
  const { target, ...stack } = scratch.layers();
  return { ...stack, target, stack };
}

/** Two hundred files in ten directories, each with its own name for content. */
function fill(lower: string): void {
  for (let i = 0; i < 200; i++) {
    mkdirSync(join(lower, `d${i % 10}`), { recursive: true });
    writeFileSync(join(lower, `d${i % 10}/f${i}`), `${i}`.repeat(1000));
  }
}

/** Nothing in the upper is half-done, and nothing but it is left. */
function expectWhole(lower: string, upper: string): string[] {
  const found = readdirSync(upper, { recursive: true, encoding: 'utf8', withFileTypes: true });
  const files = found.filter((entry) => entry.isFile()).map(({ parentPath, name }) => join(parentPath, name));
  for (const file of files) {
    const source = join(lower, file.slice(upper.length));
    expect(readFileSync(file).equals(readFileSync(source)), file).toBe(true);
    expect(statSync(file, { bigint: true }).mtimeNs).toBe(statSync(source, { bigint: true }).mtimeNs);
  }
  return files;
}

describeOn(['tmpfs'], 'copyUp refuses', (scratch) => {
  it('layers in use, with or without the work directory', async () => {
    const { stack, target, ...paths } = layers(scratch);
    const overlay = await mountOverlay({ ...stack, target });
    afterThisTest(() => overlay.unmount());
    await expectRefusal(scratch, 'ERR_OVERLAY_UPPER_IN_USE', () => all(stack, 'hello'));
    const { work, ...without } = stack;
    await expectRefusal(scratch, 'ERR_OVERLAY_UPPER_IN_USE', () => all(without, 'hello'));
    const upper = scratch.directory('another');
    await expectRefusal(scratch, 'ERR_OVERLAY_WORK_IN_USE', () => all({ ...stack, upper }, 'hello'));
    expect(readdirSync(paths.upper)).toEqual([]);
  });

  it('to work where another process of ours does', async () => {
    const { stack, work, lower, upper } = layers(scratch);
    const lock = `python3 -c "import fcntl, os, sys; fcntl.flock(os.open('$0', 0), 2); print('ready', flush=True); sys.stdin.read()"`;
    const hold = async (path: string) => {
      const child = spawn('sh', ['-c', `exec ${lock.replace('$0', path)}`], {
        stdio: ['pipe', 'pipe', 'inherit'],
      });
      await once(child.stdout, 'data');
      return async () => {
        child.stdin.end();
        await once(child, 'exit');
      };
    };
    let release = await hold(work);
    await expectRefusal(scratch, 'ERR_OVERLAY_WORK_LOCKED', () => all(stack, 'hello'));
    await release();
    release = await hold(scratch.directory('upper/#overlayfs-staging'));
    await expectRefusal(scratch, 'ERR_OVERLAY_WORK_LOCKED', () => all({ lower, upper }, 'hello'));
    await release();
    await all({ lower, upper }, 'hello'); // what was left there is ours, and goes
    expect(readdirSync(upper)).toEqual(['hello']);
  });

  it('an index, which only the kernel keeps', async () => {
    const { stack, lower, upper, work } = layers(scratch);
    await expectRefusal(scratch, 'ERR_OVERLAY_WORK_NEEDED', () =>
      all({ lower, upper, index: true }, 'hello'),
    );
    execFileSync('ln', [join(lower, 'hello'), join(lower, 'link')]);
    await expect(all({ ...stack, index: true }, 'link')).rejects.toMatchObject({
      code: 'ERR_OVERLAY_HAS_INDEX',
    });
    mkdirSync(join(work, 'index'));
    await expectRefusal(scratch, 'ERR_OVERLAY_HAS_INDEX', () => all(stack, 'hello'));
    setXattr(upper, 'trusted.overlay.origin', '');
    await expectRefusal(scratch, 'ERR_OVERLAY_WORK_NEEDED', () => all({ lower, upper }, 'hello'));
  });

  it('a work directory that is the upper, or in it, or around it', async () => {
    const { stack, upper, work } = layers(scratch);
    for (const one of [
      { ...stack, work: upper },
      { ...stack, work: scratch.directory('upper/inside') },
      { ...stack, upper: scratch.directory('work/a/b'), work },
    ])
      await expectRefusal(scratch, 'ERR_OVERLAY_WORK_NOT_SEPARATE', () => all(one, 'hello'));
  });

  it('a work directory on another mount, and layers that cannot be written', async () => {
    const { stack } = layers(scratch);
    const elsewhere = mount(scratch.path('elsewhere'), '-t', 'tmpfs', 'tmpfs');
    await expectRefusal(scratch, 'ERR_OVERLAY_WORK_ON_OTHER_MOUNT', () =>
      all({ ...stack, work: elsewhere }, 'hello'),
    );
    for (const name of ['upper', 'work']) mkdirSync(join(elsewhere, name));
    execFileSync('mount', ['-o', 'remount,ro', elsewhere]);
    const readonly = { lower: stack.lower, upper: join(elsewhere, 'upper'), work: join(elsewhere, 'work') };
    await expectRefusal(scratch, 'ERR_OVERLAY_UPPER_READONLY', () => all(readonly, 'hello'));
    const { work, ...without } = readonly;
    await expectRefusal(scratch, 'ERR_OVERLAY_UPPER_READONLY', () => all(without, 'hello'));
    await expectRefusal(scratch, 'ERR_OVERLAY_LAYER_NOT_FOUND', () =>
      all({ ...stack, lower: '/no' }, 'hello'),
    );
  });

  it('what is no stack, no path and no option, and paths that are not there or lead out', async () => {
    const { stack, lower, upper } = layers(scratch);
    const wrong = { code: 'ERR_INVALID_ARG_VALUE' };
    await expect(all({ lower }, 'hello')).rejects.toMatchObject(wrong);
    await expect(all(stack, 7 as never)).rejects.toMatchObject(wrong);
    await expect(all(stack, 'a\0b')).rejects.toMatchObject(wrong);
    for (const options of [
      { concurrency: 0 },
      { concurrency: 65 },
      { recursive: 1 },
      { signal: {} },
      { sgnal: 1 },
    ])
      await expect(all(stack, 'hello', options)).rejects.toMatchObject(wrong);
    await expectRefusal(scratch, 'ERR_OVERLAY_EMPTY_PATH', () => all(stack, ''));
    await expectRefusal(scratch, 'ERR_OVERLAY_PATH_ESCAPES', () => all(stack, ['hello', 'a/../../b']));
    await expectRefusal(scratch, 'ERR_OVERLAY_XATTR_HIDDEN', () => all(stack, 'hello'), { asNobody: true });
    const outside = scratch.directory('outside');
    mkdirSync(join(lower, 'd'));
    writeFileSync(join(lower, 'd/file'), '');
    symlinkSync(outside, join(upper, 'd'));
    symlinkSync(outside, join(lower, 'link'));
    for (const path of ['d/file', 'link/x', 'hello/x'])
      await expect(all(stack, path)).rejects.toMatchObject({ code: 'ENOTDIR', path });
    await expect(all(stack, ['hello', 'no'])).rejects.toMatchObject({ code: 'ENOENT', path: 'no' });
    await expect(all(stack, 'x'.repeat(256))).rejects.toMatchObject({ code: expect.stringMatching(/./) });
    mount(join(lower, 'mounted'), '-t', 'tmpfs', 'tmpfs');
    await expect(all(stack, 'mounted')).rejects.toMatchObject({
      code: expect.stringMatching(/EXDEV|PATH_ESCAPES/),
    });
    expect(readdirSync(outside)).toEqual([]);
    expect(readdirSync(upper).sort()).toEqual(['d', 'hello']);
  });
});

describeOn(['tmpfs', 'ext4'], 'copyUp, whatever happens meanwhile', (scratch) => {
  it('calls a file that is shorter than it says an error, and does not wait for the rest', async () => {
    const { stack, upper, work } = layers(scratch);
    // Files of sysfs say 4096 bytes and give fewer, and copy_file_range(2) answers 0 or an error there.
    const sysfs = { ...stack, lower: '/sys/kernel' };
    await expect(all(sysfs, 'uevent_seqnum')).rejects.toMatchObject({
      code: 'ESTALE',
      path: 'uevent_seqnum',
    });
    for (const layer of ['top', 'below']) scratch.file(`${layer}/file`, 'short');
    truncateSync(scratch.path('top/file'), 1_000_000);
    setXattr(scratch.path('top/file'), 'trusted.overlay.metacopy', '');
    const metacopy = { ...stack, lower: [scratch.path('top'), scratch.path('below')], metacopy: true };
    await expect(all(metacopy, 'file')).rejects.toMatchObject({ code: 'ESTALE', path: 'file' });
    expect([readdirSync(upper), readdirSync(work)]).toEqual([[], []]);
  });

  it('copies what is still there while others remove the lower', async () => {
    const { stack, lower, upper, work } = layers(scratch);
    fill(lower);
    const before = scratch.directory('before');
    execFileSync('cp', ['-a', `${lower}/.`, before]);
    const outcome = all(stack, '/', { recursive: true, concurrency: 2 }).catch(({ code }) => code);
    for (let i = 199; i >= 0; i--) rmSync(join(lower, `d${i % 10}/f${i}`));
    expect(['object', 'ENOENT', 'ESTALE']).toContainEqual(
      typeof (await outcome) === 'object' ? 'object' : await outcome,
    );
    expectWhole(before, upper);
    expect(readdirSync(work)).toEqual([]);
  });

  it('leaves a full disk as it was, but for what was complete', async () => {
    const { lower } = layers(scratch);
    const small = mount(scratch.path('small'), '-t', 'tmpfs', '-o', 'size=512k', 'tmpfs');
    const [upper, work] = ['upper', 'work'].map((name) => join(small, name)) as [string, string];
    for (const path of [upper, work]) mkdirSync(path);
    writeFileSync(join(lower, 'big'), Buffer.alloc(1 << 20, 1));
    const given: string[] = [];
    const copying = async () => {
      for await (const { path } of copyUp({ lower, upper, work }, ['hello', 'big'], { concurrency: 1 }))
        given.push(path);
    };
    await expect(copying()).rejects.toMatchObject({ code: 'ENOSPC', path: 'big' });
    expect([given, readdirSync(upper), readdirSync(work)]).toEqual([['hello'], ['hello'], []]);
  });

  it('keeps the holes of a file of a tebibyte', async () => {
    const { stack, lower, upper } = layers(scratch);
    truncateSync(scratch.file('lower/huge'), 2 ** 40);
    execFileSync('dd', [
      'if=/dev/urandom',
      `of=${lower}/huge`,
      'bs=4k',
      'count=1',
      'seek=9M',
      'conv=notrunc',
      'status=none',
    ]);
    const [result] = await all(stack, 'huge');
    const { size, blocks } = statSync(join(upper, 'huge'));
    expect([result?.bytes, size]).toEqual([4096n, 2 ** 40]);
    expect(blocks).toBeLessThan(64);
  });

  it('goes as deep as a tree does, and no deeper, however long the path', async () => {
    const { stack, lower, upper } = layers(scratch);
    await expect(all(stack, `${'a/'.repeat(100_000)}leaf`)).rejects.toMatchObject({ code: 'ENOENT' });
    const depth = 3000;
    const script = `import os, sys
os.chdir(sys.argv[1])
for i in range(${depth}):
    os.mkdir('a')
    os.chdir('a')
open('leaf', 'w').write('deep')`;
    execFileSync('python3', ['-c', script, lower]);
    const path = `${'a/'.repeat(depth)}leaf`;
    expect(await all(stack, path)).toMatchObject([{ path, bytes: 4n }]);
    expect(await whichLayer(stack, path)).toMatchObject({ place: { layer: 'upper', path } });
    execFileSync('rm', ['-rf', lower, upper]);
  });

  it('stops when it is aborted, at any moment, with nothing half-done', async () => {
    const { stack, lower, upper, work } = layers(scratch);
    fill(lower);
    writeFileSync(join(lower, 'big'), Buffer.alloc(8 << 20, 1));
    await expect(all(stack, 'hello', { signal: AbortSignal.abort() })).rejects.toMatchObject({
      name: 'AbortError',
    });
    let aborted = 0;
    for (let after = 0; after < 12; after++) {
      const controller = new AbortController();
      const outcome = all(stack, '/', { recursive: true, signal: controller.signal });
      await sleep(after);
      controller.abort(new Error('enough'));
      const reason = await outcome.catch(({ message }) => message);
      if (reason === 'enough') aborted++;
      else expect(reason).toBeInstanceOf(Array);
      expectWhole(lower, upper);
      expect(readdirSync(work)).toEqual([]);
      if (after % 4 === 3) execFileSync('sh', ['-c', `rm -rf ${upper}/*`]);
    }
    expect(aborted).toBeGreaterThan(0);
    await all(stack, '/', { recursive: true });
    expect(expectWhole(lower, upper)).toHaveLength(202);
  });

  it('stops when the loop that takes its results is left', async () => {
    const { stack, work, lower } = layers(scratch);
    fill(lower);
    for await (const { path } of copyUp(stack, '/', { recursive: true })) {
      expect(path).toBe('');
      break;
    }
    expect(readdirSync(work)).toEqual([]);
    await (await mountOverlay({ ...stack, target: scratch.path('merged') })).unmount(); // nothing is locked
  });
});

describeOn(['tmpfs'], 'copyUp of a very deep tree', (scratch) => {
  it('takes little memory and few descriptors for a tree of 3,000 levels', {
    tags: ['slow'],
    timeout: 120_000,
  }, async () => {
    const { stack, lower, upper } = layers(scratch);
    const levels = 3000;
    digTree(lower, levels, 'd'.repeat(34), 'content');
    const copied = await runChild<{ copied: number; longest: number; megabytes: number }>(
      `let [copied, longest] = [0, 0];
       for await (const batch of overlayfs.copyUp(${JSON.stringify(stack)}, '/', { recursive: true }).batches()) {
         copied += batch.length;
         for (const { pathBytes } of batch) longest = Math.max(longest, pathBytes.length);
       }
       report({ copied, longest, megabytes: process.resourceUsage().maxRSS / 1024 });`,
      { through: ['prlimit', '--nofile=1024:1024'] },
    );
    // The root, and its file \`hello\`.
    expect(copied).toMatchObject({ copied: 2 * levels + 2, longest: levels * 35 - 1 });
    expect(copied.megabytes).toBeLessThan(450);
    expect(countFiles(upper)).toBe(levels + 1);
    execFileSync('rm', ['-rf', lower, upper]);
  });

  it('lets go of a tree that is deeper than a stack of calls', {
    tags: ['slow'],
    timeout: 120_000,
  }, async () => {
    const { stack, lower, upper } = layers(scratch);
    const levels = 10_000;
    digTree(lower, levels, 'a');
    const results = await runChild<CopyUpResult[]>(
      `const path = Array(${levels}).fill('a').join('/');
       report(await overlayfs.copyUp(${JSON.stringify(stack)}, path));`,
      { through: ['prlimit', `--stack=${2 << 20}`] },
    );
    expect(results).toMatchObject([{ method: 'read-write' }]);
    execFileSync('rm', ['-rf', lower, upper]);
  });
});

describeOn(['ext4'], 'a copyUp that is killed', (scratch) => {
  const library = new URL('../../lib/index.ts', import.meta.url).href;

  it.each([true, false])(
    'leaves only what the next one removes (with a work directory: %s)',
    async (withWork) => {
      const { stack, lower, upper, work } = layers(scratch);
      const { work: _, ...without } = stack;
      const given = withWork ? stack : without;
      fill(lower);
      const place = withWork ? join(work, 'work') : join(upper, '#overlayfs-staging');
      // Over and over, so that it is at work whenever it is killed.
      const script = `import { readdirSync, rmSync } from 'node:fs';
      import { copyUp } from ${JSON.stringify(library)};
      for (;;) {
        await copyUp(${JSON.stringify(given)}, '/', { recursive: true });
        process.stdout.write('r');
        for (const name of readdirSync(${JSON.stringify(upper)}))
          rmSync(${JSON.stringify(upper)} + '/' + name, { recursive: true });
      }`;
      const child = spawn(process.execPath, [...importTypeScript, '--input-type=module', '--eval', script], {
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      await once(child.stdout, 'data');
      await sleep(50);
      child.kill('SIGKILL');
      await once(child, 'exit');
      if (existsSync(place))
        for (const name of readdirSync(place)) expect(name).toMatch(/^#overlayfs-staged-/);
      mkdirSync(join(place, '#overlayfs-staged-1-1'), { recursive: true });
      writeFileSync(join(place, '#overlayfs-staged-1-2'), '');
      symlinkSync('/', join(place, '#overlayfs-staged-1-3'));
      await all(given, '/', { recursive: true });
      expect(expectWhole(lower, upper)).toHaveLength(201);
      expect(withWork ? readdirSync(place) : existsSync(place)).toEqual(withWork ? [] : false);
    },
  );
});

describeOn(['ext4'], 'copyUp', (scratch) => {
  it('keeps immutable files as the kernel does: shown as such, by an attribute', async () => {
    const { stack, lower, upper } = layers(scratch);
    execFileSync('chattr', ['+i', join(lower, 'hello')]);
    afterThisTest(() => execFileSync('chattr', ['-i', join(lower, 'hello')]));
    await all(stack, 'hello');
    expect((await xattrs(join(upper, 'hello')))['trusted.overlay.protattr']).toBe(
      Buffer.from('i').toString('hex'),
    );
    const target = scratch.path('merged');
    await using overlay = await mountOverlay({ ...stack, target });
    expect(() => writeFileSync(join(target, 'hello'), '')).toThrow('EPERM');
    await overlay.unmount();
  });

  it('says which attributes the upper could not take', async () => {
    const { lower } = layers(scratch);
    setXattr(join(lower, 'hello'), 'user.kept', 'no');
    const ram = mount(scratch.path('ram'), '-t', 'ramfs', 'ramfs');
    const upper = join(ram, 'upper');
    mkdirSync(upper);
    const [result] = await all({ lower, upper }, 'hello');
    expect(result?.reason).toMatch(/does not take .*user\.kept.*trusted\.overlay\.origin/);
    expect(readFileSync(join(upper, 'hello'), 'utf8')).toBe('from the lower');
  });

  it('is refused in a user namespace too where a mount is known to use the upper', async () => {
    const { stack, target, upper } = layers(scratch);
    const codes = await runChild<string[]>(
      `const stack = ${JSON.stringify(stack)};
       const refused = async () => (await overlayfs.copyUp(stack, 'hello').then(() => 'done', ({ code }) => code));
       const detached = await overlayfs.mountOverlay(stack);
       const codes = [await refused()];
       await detached.unmount();
       const attached = await overlayfs.mountOverlay({ ...stack, target: ${JSON.stringify(target)} });
       codes.push(await refused());
       await attached.unmount();
       report([...codes, await refused()]);`,
      { through: ['unshare', '--user', '--map-root-user', '--mount'] },
    );
    expect(codes).toEqual(['ERR_OVERLAY_UPPER_IN_USE', 'ERR_OVERLAY_UPPER_IN_USE', 'done']);
    expect(readdirSync(upper)).toEqual(['hello']);
  });

  it('writes in a user namespace what the kernel writes there: an origin that says nothing', async () => {
    const { stack, target, lower } = layers(scratch);
    const kernels = { lower, upper: scratch.directory('upper2'), work: scratch.directory('work2') };
    const said = await runChild<{ method: string; unverified: string[] }>(
      `import { openSync, closeSync } from 'node:fs';
      const [ours, kernels, target] = ${JSON.stringify([stack, kernels, target])};
      const overlay = await overlayfs.mountOverlay({ ...kernels, target });
      closeSync(openSync(target + '/hello', 'r+'));
      await overlay.unmount();
      const stream = overlayfs.copyUp(ours, 'hello');
      const [{ method }] = await stream;
      report({ method, unverified: stream.unverified.map(({ code }) => code) });`,
      { through: ['unshare', '--user', '--map-root-user', '--mount'] },
    );
    expect(said).toEqual({
      method: expect.stringMatching(/copy_file_range|clone/),
      unverified: ['WARN_OVERLAY_IN_USE_UNKNOWN'],
    });
    const [ours, kernel] = await Promise.all(
      [stack, kernels].map(({ upper }) => xattrs(join(upper, 'hello'))),
    );
    expect(ours).toEqual(kernel);
    expect(ours).toEqual({ 'user.overlay.origin': '' });
  });
});
