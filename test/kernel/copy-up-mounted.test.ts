// @module-tag vm
/** `overlay.copyUp()`: the kernel copies up, and nothing else happens. */
import { execFileSync, spawn } from 'node:child_process';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { once } from 'node:events';
import {
  chmodSync,
  chownSync,
  copyFileSync,
  existsSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { expect, it } from 'vitest';
import {
  type CopyUpOptions,
  type CopyUpResult,
  mountOverlay,
  type Overlay,
  type OverlayOptions,
} from '../../lib/index.ts';
import { runChild, swappingShell } from '../support/child.ts';
import { chattr, mknod } from '../support/commands.ts';
import { countFiles, digTree } from '../support/deep-tree.ts';
import { buildTree, everything, seeTree } from '../support/described-tree.ts';
import { describePrivileged } from '../support/needs.ts';
import { afterThisTest, describeOn, fileSystems, type Scratch, scratchOn } from '../support/scratch.ts';
import { setXattrs } from '../support/xattr.ts';

async function mounted(scratch: Scratch, options: Partial<OverlayOptions> = {}): Promise<Overlay> {
  const overlay = await mountOverlay({ ...scratch.layers(), ...options });
  afterThisTest(() => overlay.unmount());
  return overlay;
}

/** `path: method` of each, in order of paths. */
const short = (results: readonly CopyUpResult[]) =>
  results.map(({ path, method, reason }) => `${path || '.'}: ${reason ?? method}`).sort();

const codeOf = (work: PromiseLike<unknown>): Promise<string | undefined> =>
  Promise.resolve(work).then(
    () => undefined,
    (error: NodeJS.ErrnoException) => error.code,
  );

const present = 'in the upper already';

describeOn(fileSystems, 'copyUp() through the mount', (scratch) => {
  it('copies everything up, and changes nothing of it', async () => {
    await buildTree(scratch.directory('lower/tree'), everything);
    const overlay = await mounted(scratch);
    const before = await seeTree(overlay.path());
    // The kernel puts a directory's time back after each copy-up in it: of two at once, one may keep the other's.
    const results = await overlay.copyUp('tree', { recursive: true, concurrency: 1 });
    expect(results.map(({ path }) => path).sort()).toEqual(
      ['tree', ...everything.map(({ path }) => `tree/${path}`)].sort(),
    );
    expect(new Set(results.map(({ method }) => method))).toEqual(new Set(['kernel']));
    expect(results.find(({ path }) => path === 'tree/sparse')).toMatchObject({
      bytes: BigInt((3 << 20) + 3),
      cloned: false,
    });
    // Without an index, the kernel cuts hard links when it copies up.
    expect(withoutLinks(await seeTree(overlay.path()))).toEqual(withoutLinks(before));
    expect(Object.keys(await seeTree(scratch.path('upper/tree'))).sort()).toEqual(
      ['.', ...everything.map(({ path }) => path)].sort(),
    );
    expect(withoutLinks(await seeTree(scratch.path('upper/tree')), true)).toEqual(
      withoutLinks(await seeTree(scratch.path('lower/tree')), true),
    );
    const again = await overlay.copyUp('/tree/', { recursive: true });
    expect(new Set(again.map(({ method, reason }) => `${method}: ${reason}`))).toEqual(
      new Set([`skipped: ${present}`]),
    );
  });

  it('tells what has just been made from what is copied up', async () => {
    const overlay = await mounted(scratch);
    for (let i = 0; i < 10; i++) {
      writeFileSync(overlay.path(`new-${i}`), 'new');
      scratch.file(`lower/fresh-${i}`, 'fresh');
      expect(short(await overlay.copyUp([`new-${i}`, `fresh-${i}`]))).toEqual([
        `fresh-${i}: kernel`,
        `new-${i}: ${present}`,
      ]);
    }
  });
});

function withoutLinks(tree: Awaited<ReturnType<typeof seeTree>>, ownAttributes = false) {
  return Object.fromEntries(
    Object.entries(tree).map(([path, { links: _, xattrs, ...entry }]) => [
      path,
      {
        ...entry,
        xattrs: Object.fromEntries(
          Object.entries(xattrs).filter(([name]) => !ownAttributes || !name.startsWith('trusted.overlay.')),
        ),
      },
    ]),
  );
}

describePrivileged('copyUp() through the mount', () => {
  const scratch = scratchOn();

  it('copies up a program that runs, with set-user-ID and capabilities', async () => {
    scratch.directory('lower');
    copyFileSync('/bin/sleep', scratch.path('lower/program'));
    chmodSync(scratch.path('lower/program'), 0o4755);
    const capability = Buffer.from('0100000200200000000000000000000000000000', 'hex');
    setXattrs([scratch.path('lower/program'), 'security.capability', capability]);
    const overlay = await mounted(scratch);
    const child = spawn(overlay.path('program'), ['60'], { stdio: 'ignore' });
    await once(child, 'spawn');
    expect(() => openSync(overlay.path('program'), 'r+')).toThrow('ETXTBSY');
    const before = await seeTree(overlay.path());
    expect(short(await overlay.copyUp('program'))).toEqual(['program: kernel']);
    expect(await seeTree(overlay.path())).toEqual(before);
    expect(existsSync(scratch.path('upper/program'))).toBe(true);
    const ended = once(child, 'exit');
    child.kill('SIGKILL');
    await ended;
  });

  it('waits for no FIFO and opens no device', async () => {
    await buildTree(scratch.directory('lower'), [{ path: 'fifo', type: 'fifo' }]);
    // A driver that does not exist: it could not be opened.
    mknod(scratch.path('lower/device'), 'c', 240, 77);
    const overlay = await mounted(scratch);
    expect(short(await overlay.copyUp(['fifo', 'device']))).toEqual(['device: kernel', 'fifo: kernel']);
    expect(readdirSync(scratch.path('upper')).sort()).toEqual(['device', 'fifo']);
  });

  it('skips what is immutable or append-only, and says so', async () => {
    for (const [letter, name] of [
      ['i', 'immutable'],
      ['a', 'append-only'],
    ] as const) {
      const path = scratch.file(`lower/${name}`, name);
      chattr(`+${letter}`, path);
      afterThisTest(() => chattr(`-${letter}`, path));
    }
    const overlay = await mounted(scratch);
    expect(short(await overlay.copyUp(['immutable', 'append-only']))).toEqual([
      'append-only: append-only',
      'immutable: immutable',
    ]);
    expect(readdirSync(scratch.path('upper'))).toEqual([]);
  });

  it('completes what has only its metadata in the upper, but not a program that runs', async () => {
    const file = scratch.file('lower/file', 'text');
    copyFileSync('/bin/sleep', scratch.path('lower/program'));
    const overlay = await mounted(scratch, { metacopy: true });
    chownSync(overlay.path('file'), 1, 0);
    expect(lstatSync(scratch.path('upper/file')).blocks).toBe(0);
    const child = spawn(overlay.path('program'), ['60'], { stdio: 'ignore' });
    await once(child, 'spawn');
    const why = 'its metadata alone: the program is running, and the overlay has metacopy';
    expect(short(await overlay.copyUp(['file', 'program']))).toEqual(['file: kernel', `program: ${why}`]);
    const ended = once(child, 'exit');
    child.kill('SIGKILL');
    await ended;
    expect(readFileSync(scratch.path('upper/file'), 'utf8')).toBe('text');
    expect(readFileSync(file, 'utf8')).toBe('text');
    expect(short(await overlay.copyUp(['file', 'program']))).toEqual([`file: ${present}`, 'program: kernel']);
    expect(readFileSync(scratch.path('upper/program')).length).toBeGreaterThan(1000);
  });

  it('names a directory before what is in it, and leaves other mounts alone', async () => {
    scratch.file('lower/a/b/c/file');
    scratch.file('lower/a/mount/hidden');
    const overlay = await mounted(scratch);
    await using _ = await mountOverlay({
      lower: scratch.directory('other'),
      scratch: true,
      target: overlay.path('a/mount'),
    });
    const paths = (await overlay.copyUp('a', { recursive: true, concurrency: 8 })).map(({ path, reason }) => [
      path,
      reason,
    ]);
    expect(paths.map(([path]) => path)).toEqual(
      expect.arrayContaining(['a', 'a/b', 'a/b/c', 'a/b/c/file', 'a/mount']),
    );
    expect(paths.filter(([path]) => path !== 'a/mount').map(([path]) => path)).toEqual([
      'a',
      'a/b',
      'a/b/c',
      'a/b/c/file',
    ]);
    expect(paths).toContainEqual(['a/mount', 'on another mount']);
    expect(await codeOf(overlay.copyUp('a/mount/below'))).toBe('EXDEV');
  });

  it('follows symbolic links on the way, inside the overlay, and never the last name', async () => {
    const outside = scratch.file('outside/file');
    scratch.file(`lower/${outside.slice(1)}`, 'inside');
    scratch.file('lower/directory/file');
    symlinkSync('/directory', scratch.path('lower/link'));
    symlinkSync(scratch.path('outside'), scratch.path('lower/out'));
    const overlay = await mounted(scratch);
    expect(short(await overlay.copyUp(['link/file', 'link', 'out/file']))).toEqual([
      'link/file: kernel',
      'link: kernel',
      'out/file: kernel',
    ]);
    expect(readFileSync(scratch.path('upper', outside), 'utf8')).toBe('inside');
    expect(lstatSync(scratch.path('upper/link')).isSymbolicLink()).toBe(true);
    expect(existsSync(scratch.path('upper/directory/file'))).toBe(true);
  });

  it('takes names in bytes, and many of them', { tags: ['slow'] }, async () => {
    const odd = Buffer.from('caf\xe9\n', 'latin1');
    scratch.directory('lower');
    writeFileSync(Buffer.concat([Buffer.from(`${scratch.path('lower')}/`), odd]), 'x');
    for (let i = 0; i < 2500; i++) scratch.file(`lower/many/${i}`, `${i}`);
    const overlay = await mounted(scratch);
    expect((await overlay.copyUp(odd))[0]).toMatchObject({
      path: 'caf\\xe9\n',
      pathBytes: odd,
      method: 'kernel',
      bytes: 1n,
    });
    const told: unknown[] = [];
    let count = 0;
    const sizes: number[] = [];
    for await (const batch of overlay
      .copyUp('many', { recursive: true, progress: (done) => told.push(done) })
      .batches()) {
      sizes.push(batch.length);
      count += batch.length;
    }
    expect(count).toBe(2501);
    expect(sizes.length).toBeGreaterThan(2);
    expect(told.at(-1)).toEqual({ entries: 2501, bytes: BigInt(10 + 90 * 2 + 900 * 3 + 1500 * 4) });
    expect(readdirSync(scratch.path('upper/many'))).toHaveLength(2500);
  });

  it('takes little memory and few descriptors for a tree of 3,000 levels', {
    tags: ['slow'],
    timeout: 120_000,
  }, async () => {
    const { lower, upper, work } = scratch.layers();
    const levels = 3000;
    digTree(lower, levels, 'd'.repeat(34), 'content');
    const copied = await runChild<{ copied: number; longest: number; megabytes: number }>(
      `const stack = ${JSON.stringify({ lower, upper, work })};
       const overlay = await overlayfs.mountOverlay(stack);
       let [copied, longest] = [0, 0];
       for await (const batch of overlay.copyUp('/', { recursive: true }).batches()) {
         copied += batch.length;
         for (const { pathBytes } of batch) longest = Math.max(longest, pathBytes.length);
       }
       await overlay.unmount();
       report({ copied, longest, megabytes: process.resourceUsage().maxRSS / 1024 });`,
      { through: ['prlimit', '--nofile=1024:1024'] },
    );
    // The root, and its file \`hello\`.
    expect(copied).toMatchObject({ copied: 2 * levels + 2, longest: levels * 35 - 1 });
    expect(copied.megabytes).toBeLessThan(450);
    expect(countFiles(upper)).toBe(levels + 1);
    execFileSync('rm', ['-rf', lower, upper]);
  });

  it('stops when it is told to, and lets go of the mount', { tags: ['slow'] }, async () => {
    for (let i = 0; i < 3000; i++) scratch.file(`lower/many/${i}`);
    const overlay = await mountOverlay(scratch.layers());
    for await (const _ of overlay.copyUp('many', { recursive: true })) break;
    const done = readdirSync(scratch.path('upper/many')).length;
    expect(done).toBeLessThan(2000);
    const controller = new AbortController();
    const stopped = overlay.copyUp('many', { recursive: true, signal: controller.signal });
    const ended = expect(Promise.resolve(stopped)).rejects.toThrow('aborted');
    setTimeout(() => controller.abort(), 5);
    await ended;
    await expect(Promise.resolve(overlay.copyUp('many', { signal: AbortSignal.abort() }))).rejects.toThrow(
      'aborted',
    );
    await overlay.unmount({ timeout: 0 });
    expect(() => overlay.copyUp('many')).toThrow('has been unmounted');
  });

  it('fails as node:fs does, after what it has done', async () => {
    scratch.file('lower/one');
    const overlay = await mounted(scratch);
    const results: string[] = [];
    const work = async () => {
      for await (const { path } of overlay.copyUp(['one', 'missing'], { concurrency: 1 })) results.push(path);
    };
    await expect(work()).rejects.toMatchObject({
      code: 'ENOENT',
      errno: -2,
      syscall: 'open',
      path: 'missing',
    });
    expect(results).toEqual(['one']);
    expect(await codeOf(overlay.copyUp('one/below'))).toBe('ENOTDIR');
    symlinkSync('loop', overlay.path('loop'));
    expect(await codeOf(overlay.copyUp('loop/x'))).toBe('ELOOP');
    expect(await codeOf(overlay.copyUp('loop'))).toBeUndefined();
  });

  it('fails on a read-only overlay, and where there is no room', async () => {
    const { lower } = scratch.layers();
    await using readonly = await mountOverlay({ lower: [lower, scratch.directory('b')] });
    expect(await codeOf(readonly.copyUp('hello'))).toBe('EROFS');
    writeFileSync(scratch.path('lower/large'), Buffer.alloc(1 << 20, 1));
    await using small = await mountOverlay({ lower, scratch: { size: 64n << 10n } });
    expect(await codeOf(small.copyUp('large'))).toBe('ENOSPC');
  });

  it('refuses what is no path and no option', async () => {
    const overlay = await mounted(scratch);
    const copyUp = overlay.copyUp.bind(overlay) as (...args: unknown[]) => unknown;
    const invalid = expect.objectContaining({ code: 'ERR_INVALID_ARG_VALUE' });
    for (const args of [
      [1],
      [['a', undefined]],
      ['a\0'],
      ['a', { recurse: true }],
      ['a', { concurrency: 0 }],
    ]) {
      expect(() => copyUp(...args)).toThrow(invalid);
    }
    expect(() => copyUp('')).toThrow(expect.objectContaining({ code: 'ERR_OVERLAY_EMPTY_PATH' }));
    expect(() => copyUp('a/../../b')).toThrow(expect.objectContaining({ code: 'ERR_OVERLAY_PATH_ESCAPES' }));
    expect(await overlay.copyUp([])).toEqual([]);
  });

  it('tells listeners how it ended', async () => {
    const overlay = await mounted(scratch);
    const events: unknown[] = [];
    const listen = (event: unknown) => events.push(event);
    subscribe('overlayfs:copy-up', listen);
    afterThisTest(() => unsubscribe('overlayfs:copy-up', listen));
    await overlay.copyUp('hello');
    await codeOf(overlay.copyUp('missing'));
    expect(events).toEqual([
      { mounted: true, entries: 1, bytes: 14n, duration: expect.any(Number) },
      expect.objectContaining({
        mounted: true,
        entries: 0,
        error: expect.objectContaining({ code: 'ENOENT' }),
      }),
    ]);
  });

  it('copies nothing outside while a directory is swapped for a symbolic link', {
    tags: ['slow'],
  }, async () => {
    const outside = scratch.directory('outside');
    writeFileSync(`${outside}/file`, 'outside');
    const overlay = await mounted(scratch);
    mkdirSync(overlay.path('own'));
    writeFileSync(overlay.path('own/file'), 'inside');
    const before = lstatSync(`${outside}/file`, { bigint: true }).ctimeNs;
    const options: CopyUpOptions = { recursive: true, concurrency: 2 };
    {
      await using _ = await swappingShell(overlay.path(), outside);
      for (let i = 0; i < 100; i++) await codeOf(overlay.copyUp('/', options));
    }
    expect(lstatSync(`${outside}/file`, { bigint: true }).ctimeNs).toBe(before);
  });
});
