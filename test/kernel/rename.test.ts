/** `overlay.rename()`: what rename(2) does, completed where the kernel gives EXDEV. */
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  closeSync,
  linkSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  statSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { mountOverlay, type Overlay, type OverlayOptions } from '../../lib/index.ts';
import { runChild, swappingShell, waitingShell } from '../support/child.ts';
import { buildTree, everything, seeTree, type TreeEntry } from '../support/described-tree.ts';
import { describePrivileged } from '../support/needs.ts';
import { afterThisTest, describeOn, fileSystems, type Scratch, scratchOn } from '../support/scratch.ts';

const staged = (names: readonly string[]) => names.filter((name) => name.startsWith('.overlayfs-rename-'));

/** An overlay whose lower has a directory `from` with this in it. */
async function overlayOf(
  scratch: Scratch,
  entries: readonly TreeEntry[],
  options: Partial<OverlayOptions> = {},
): Promise<Overlay> {
  const layers = scratch.layers();
  await buildTree(scratch.directory('lower/from'), entries);
  const overlay = await mountOverlay({ ...layers, ...options });
  afterThisTest(() => overlay.unmount());
  return overlay;
}

const codeOf = (work: () => unknown): string | undefined => {
  try {
    work();
    return undefined;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code;
  }
};
const codeOfPromise = (work: Promise<unknown>): Promise<string | undefined> =>
  work.then(
    () => undefined,
    (error: NodeJS.ErrnoException) => error.code,
  );

const fewFiles: readonly TreeEntry[] = [
  { path: 'file', type: 'file', content: 'text' },
  { path: 'sub', type: 'directory' },
  { path: 'sub/file', type: 'file', content: 'more' },
];
const manyFiles = (count: number): TreeEntry[] => [
  { path: 'sub', type: 'directory' },
  ...Array.from(
    { length: count },
    (_, i): TreeEntry => ({
      path: `${i % 2 ? 'sub/' : ''}file-${i}`,
      type: 'file',
      content: `text ${i}`.repeat(100),
    }),
  ),
];

/** Expects a refusal with this code, and the view as it was. */
async function expectNothingDone(
  overlay: Overlay,
  attempt: () => Promise<unknown>,
  code: string,
): Promise<Error> {
  const before = await seeTree(overlay.path());
  const error = await attempt().then(
    () => undefined,
    (reason: unknown) => reason as Error & { code: string },
  );
  expect(error?.code ?? error).toBe(code);
  expect(await seeTree(overlay.path())).toEqual(before);
  return error as Error;
}

describeOn(fileSystems, 'rename() of a directory that a lower layer has', (scratch) => {
  it('keeps everything that belongs to it', async () => {
    const overlay = await overlayOf(scratch, everything);
    const before = await seeTree(overlay.path('from'));
    expect(codeOf(() => renameSync(overlay.path('from'), overlay.path('to')))).toBe('EXDEV');
    const result = await overlay.rename('from', 'to');
    expect(result).toEqual({ method: 'copy', entries: everything.length + 1, bytes: expect.any(BigInt) });
    expect(await seeTree(overlay.path('to'))).toEqual(before);
    expect(readdirSync(overlay.path()).sort()).toEqual(['hello', 'to']);
    await overlay.remount({ readonly: true });
    expect(await seeTree(overlay.path('to'))).toEqual(before);
  });

  it('keeps holes, and the time of last access', async () => {
    const overlay = await overlayOf(scratch, [
      { path: 'sparse', type: 'file', content: 'end', offset: 8 << 20, mtime: [9, 9] },
    ]);
    await overlay.rename('from', 'to');
    const { atimeNs, blocks } = lstatSync(overlay.path('to/sparse'), { bigint: true });
    expect(atimeNs).toBe(9_000_000_009n);
    expect(blocks).toBeLessThan(200n);
  });

  it('does it for what is in both, and into another directory', async () => {
    const overlay = await overlayOf(scratch, everything);
    writeFileSync(overlay.path('from/plain'), 'changed');
    unlinkSync(overlay.path('from/fifo'));
    mkdirSync(overlay.path('from/new'));
    mkdirSync(overlay.path('place'));
    const before = await seeTree(overlay.path('from'));
    await overlay.rename('from/', 'place/to');
    expect(await seeTree(overlay.path('place/to'))).toEqual(before);
  });

  it('gives a copy none of what the directory above gives to all that is made in it', async () => {
    const overlay = await overlayOf(scratch, fewFiles);
    const acl = everything.find(({ path }) => path === 'acl') as TreeEntry;
    await buildTree(overlay.path(), [{ ...acl, mode: 0o2777, owner: [3, 4] }]);
    const before = await seeTree(overlay.path('from'));
    await overlay.rename('from', 'acl/to');
    expect(await seeTree(overlay.path('acl/to'))).toEqual(before);
  });

  it('replaces an empty directory, also one that a lower layer has', async () => {
    scratch.directory('lower/empty');
    const overlay = await overlayOf(scratch, fewFiles);
    const before = await seeTree(overlay.path('from'));
    await overlay.rename('from', 'empty');
    expect(await seeTree(overlay.path('empty'))).toEqual(before);
    mkdirSync(overlay.path('other'));
    await buildTree(scratch.directory('merged/from'), fewFiles);
    expect(await overlay.rename('from', 'other')).toMatchObject({ method: 'rename' });
  });
});

describePrivileged('rename()', () => {
  const scratch = scratchOn();

  it('leaves to the kernel what the kernel does', async () => {
    const overlay = await overlayOf(scratch, fewFiles);
    expect(await overlay.rename('hello', 'from/hello')).toEqual({ method: 'rename', entries: 0, bytes: 0n });
    expect(readFileSync(overlay.path('from/hello'), 'utf8')).toBe('from the lower');
    mkdirSync(overlay.path('new'));
    expect(await overlay.rename('/new', 'newer/')).toMatchObject({ method: 'rename' });
  });

  it("is one system call with redirectDir: 'on'", async () => {
    const overlay = await overlayOf(scratch, fewFiles, { redirectDir: 'on' });
    expect(await overlay.rename('from', 'to')).toMatchObject({ method: 'rename' });
    expect(readdirSync(overlay.path()).sort()).toEqual(['hello', 'to']);
  });

  it('does it in a detached view', async () => {
    const { lower } = scratch.layers();
    await buildTree(scratch.directory('lower/from'), everything);
    await using view = await mountOverlay({ lower, scratch: true });
    // Another process reads the trees: a descriptor's name is good there only with the pid.
    const seen = (name: string) => seeTree(view.path(name).replace('self', `${process.pid}`));
    const before = await seen('from');
    await view.rename('from', 'to');
    expect(await seen('to')).toEqual(before);
  });

  it('does it in a user namespace', async () => {
    await buildTree(scratch.directory('lower/from'), fewFiles);
    const said = await runChild<{ method: string; names: string[] }>(
      `const [lower] = process.argv.slice(-1);
       const { readdirSync } = await import('node:fs');
       const view = await overlayfs.mountOverlay({ lower, scratch: true });
       const { method } = await view.rename('from', 'to');
       report({ method, names: readdirSync(view.path('to')) });`,
      { through: ['unshare', '--user', '--map-root-user', '--mount'], args: [scratch.path('lower')] },
    );
    expect(said).toEqual({ method: 'copy', names: ['file', 'sub'] });
  });

  it('follows symbolic links on the way, inside the overlay, and never the last name', async () => {
    const overlay = await overlayOf(scratch, fewFiles);
    symlinkSync('/from', overlay.path('absolute'));
    await overlay.rename('absolute/sub', 'absolute/renamed');
    expect(readdirSync(overlay.path('from')).sort()).toEqual(['file', 'renamed']);
    await overlay.rename('absolute', 'link');
    expect(lstatSync(overlay.path('link')).isSymbolicLink()).toBe(true);
    expect(await codeOfPromise(overlay.rename('../../from', 'to'))).toBeUndefined(); // `..` of the root is the root
  });

  it('swaps what the kernel swaps, and says EXDEV of a merged directory', async () => {
    const overlay = await overlayOf(scratch, fewFiles);
    writeFileSync(overlay.path('new'), 'new');
    await overlay.rename('hello', 'new', { exchange: true });
    expect(readFileSync(overlay.path('hello'), 'utf8')).toBe('new');
    const exchange = () => overlay.rename('from', 'new', { exchange: true });
    const error = await expectNothingDone(overlay, exchange, 'EXDEV');
    expect(error).toMatchObject({ errno: -18, syscall: 'rename', path: 'from', dest: 'new' });
    expect((error.cause as Error).message).toMatch('cannot be exchanged');
  });

  it.each(['file', 'directory'])('replaces no %s with noreplace', async (kind) => {
    const overlay = await overlayOf(scratch, fewFiles);
    if (kind === 'directory') mkdirSync(overlay.path('to'));
    else writeFileSync(overlay.path('to'), '');
    await expectNothingDone(overlay, () => overlay.rename('from', 'to', { noreplace: true }), 'EEXIST');
    await overlay.rename('from', 'elsewhere', { noreplace: true });
  });

  it('makes errors as node:fs makes them', async () => {
    const overlay = await overlayOf(scratch, fewFiles);
    const expected = { errno: -2, code: 'ENOENT', syscall: 'rename', path: 'missing', dest: 'to' };
    await expect(overlay.rename('missing', 'to')).rejects.toMatchObject(expected);
    await expect(overlay.rename('missing', 'to')).rejects.toThrow(
      "ENOENT: no such file or directory, rename 'missing' -> 'to'",
    );
  });

  it('refuses what is no path and no option', async () => {
    const overlay = await overlayOf(scratch, fewFiles);
    const invalid = { code: 'ERR_INVALID_ARG_VALUE' };
    const rename = overlay.rename.bind(overlay) as (...args: unknown[]) => Promise<unknown>;
    await expect(rename('from')).rejects.toMatchObject(invalid);
    await expect(rename('from\0', 'to')).rejects.toMatchObject(invalid);
    await expect(rename('from', 'to', { replace: false })).rejects.toMatchObject(invalid);
    await expect(rename('from', 'to', { noreplace: 1 })).rejects.toMatchObject(invalid);
    await expect(rename('from', 'to', { noreplace: true, exchange: true })).rejects.toMatchObject(invalid);
    await expect(rename('from', 'to', { signal: {} })).rejects.toMatchObject(invalid);
    await expect(rename('', 'to')).rejects.toMatchObject({ code: 'ERR_OVERLAY_EMPTY_PATH' });
    await overlay.unmount();
    await expect(rename('from', 'to')).rejects.toMatchObject({ code: 'ERR_OVERLAY_NOT_MOUNTED' });
  });

  it('changes nothing of a read-only overlay', async () => {
    const overlay = await overlayOf(scratch, fewFiles, { readonly: true });
    await expectNothingDone(overlay, () => overlay.rename('from', 'to'), 'EROFS');
  });
});

describePrivileged('rename() beside rename(2) in a plain directory', () => {
  const scratch = scratchOn();
  const tree: readonly TreeEntry[] = [
    { path: 'a', type: 'directory' },
    { path: 'a/b', type: 'directory' },
    { path: 'a/b/file', type: 'file', content: 'x' },
    { path: 'a/empty', type: 'directory' },
    { path: 'file', type: 'file', content: 'y' },
    { path: 'link', type: 'symlink', content: 'a' },
    { path: 'dangling', type: 'symlink', content: 'nowhere' },
    { path: 'full', type: 'directory' },
    { path: 'full/file', type: 'file', content: 'z', mode: 0o600 },
    { path: 'full/hard', type: 'link', content: 'full/file' },
  ];
  const paths = [
    ...[
      'a',
      'a/',
      'a/b',
      'a/b/',
      'a/b/file',
      'a/b/file/',
      'a/empty',
      'file',
      'file/',
      'link',
      'link/',
      'dangling',
    ],
    ...[
      'dangling/',
      'full',
      'full/hard',
      'full/file',
      'new',
      'new/',
      'a/new',
      'a/b/new/',
      'missing/new',
      'file/new',
    ],
    ...['link/new', 'a/.', 'a/..', '.', './a/../full', 'a//b'],
  ];

  it('does the same, or fails with the same code, whatever is asked', async () => {
    const path = fc.constantFrom(...paths);
    let count = 0;
    await fc.assert(
      fc.asyncProperty(path, path, async (from, to) => {
        const run = `run-${++count}`;
        const layers = scratch.layers(run);
        const plain = scratch.directory(run, 'plain');
        await Promise.all([buildTree(layers.lower, tree), buildTree(plain, tree)]);
        unlinkSync(`${layers.lower}/hello`);
        // Without an index the kernel itself cuts the links of a file that it renames.
        await using overlay = await mountOverlay({ ...layers, index: true });
        const expected = codeOf(() => renameSync(`${plain}/${from}`, `${plain}/${to}`));
        expect(await codeOfPromise(overlay.rename(from, to))).toBe(expected);
        expect(withoutTimes(await seeTree(overlay.path()))).toEqual(withoutTimes(await seeTree(plain)));
      }),
      { numRuns: 150 },
    );
  }, 120_000);

  it('does the same with any tree', async () => {
    const name = fc.constantFrom('a', 'b', 'c', 'd');
    const mode = fc.constantFrom(0o644, 0o4755, 0o600, 0o1777, 0);
    const entry = fc.record({
      path: fc.array(name, { minLength: 1, maxLength: 4 }).map((names) => names.join('/')),
      type: fc.constantFrom<TreeEntry['type']>(
        'directory',
        'directory',
        'file',
        'file',
        'symlink',
        'fifo',
        'link',
        'socket',
      ),
      content: fc
        .string({ maxLength: 20, unit: 'grapheme-ascii' })
        .map((text) => `x${text.replaceAll('\0', '')}`),
      mode,
      owner: fc.tuple(fc.nat(3), fc.nat(3)),
      mtime: fc.tuple(fc.integer({ min: 1, max: second }), fc.nat(second - 1)),
    });
    let count = 0;
    await fc.assert(
      fc.asyncProperty(fc.array(entry, { maxLength: 25 }), name, async (entries, from) => {
        const run = `tree-${++count}`;
        const layers = scratch.layers(run);
        const plain = scratch.directory(run, 'plain');
        const tree = settle(entries);
        await Promise.all([buildTree(layers.lower, tree), buildTree(plain, tree)]);
        unlinkSync(`${layers.lower}/hello`);
        await using overlay = await mountOverlay({ ...layers, index: true });
        const expected = codeOf(() => renameSync(`${plain}/${from}`, `${plain}/to`));
        expect(await codeOfPromise(overlay.rename(from, 'to'))).toBe(expected);
        const [seen, wanted] = await Promise.all([seeTree(overlay.path()), seeTree(plain)]);
        expect(withinTheSame(seen)).toEqual(withinTheSame(wanted));
      }),
      { numRuns: 40 },
    );
  }, 120_000);
});

const second = 1_000_000_000;

// The parents of what is renamed get new times in either, at slightly different moments.
function withoutTimes(tree: Awaited<ReturnType<typeof seeTree>>) {
  return Object.fromEntries(Object.entries(tree).map(([path, entry]) => [path, { ...entry, mtime: '' }]));
}

// A directory that is copied keeps no links that lead out of it; and the root gets a new time.
function withinTheSame({ '.': _, ...tree }: Awaited<ReturnType<typeof seeTree>>) {
  const isMoved = (path: string) => path.startsWith('to/');
  return Object.fromEntries(
    Object.entries(tree).map(([path, entry]) => [
      path,
      { ...entry, links: entry.links.filter((other) => isMoved(other) === isMoved(path)) },
    ]),
  );
}

/** What can be built of it: each path once, parents made, links to files that are there. */
function settle(entries: readonly TreeEntry[]): TreeEntry[] {
  const made = new Map<string, TreeEntry>();
  for (const entry of entries) {
    const parts = entry.path.split('/');
    const parents = parts.slice(1).map((_, i) => parts.slice(0, i + 1).join('/'));
    if (parents.some((parent) => (made.get(parent)?.type ?? 'directory') !== 'directory')) continue;
    for (const path of parents)
      if (!made.has(path)) made.set(path, { path, type: 'directory', mtime: [5, 5] });
    if (made.has(entry.path)) continue;
    const file = [...made.values()].find(({ type }) => type === 'file');
    if (entry.type !== 'link') made.set(entry.path, entry);
    else if (file !== undefined) made.set(entry.path, { path: entry.path, type: 'link', content: file.path });
  }
  return [...made.values()];
}

describePrivileged('rename() of what would not survive a copy', () => {
  const scratch = scratchOn();
  const refused = 'ERR_OVERLAY_RENAME_REFUSED';

  it('is refused while something is mounted below', async () => {
    const overlay = await overlayOf(scratch, fewFiles);
    await using _ = await mountOverlay({
      lower: scratch.directory('l'),
      scratch: true,
      target: overlay.path('from/sub'),
    });
    const before = readdirSync(overlay.path()).sort();
    const error = await overlay.rename('from', 'to').catch((reason) => reason);
    expect(error).toMatchObject({ code: refused, path: 'from/sub', dest: 'to' });
    expect(readdirSync(overlay.path()).sort()).toEqual(before);
  });

  it.each(['i', 'a'])('is refused for a file with the attribute %s', async (letter) => {
    const overlay = await overlayOf(scratch, fewFiles);
    execFileSync('chattr', [`+${letter}`, overlay.path('from/sub/file')]);
    afterThisTest(() => execFileSync('chattr', [`-${letter}`, `${overlay.path()}/from/sub/file`]));
    const error = await expectNothingDone(overlay, () => overlay.rename('from', 'to'), refused);
    expect(error).toMatchObject({ path: 'from/sub/file' });
  });

  it('is refused while a process has bound a socket in it, of either kind', async () => {
    const overlay = await overlayOf(scratch, fewFiles);
    const server = createServer().listen(overlay.path('from/socket'));
    await once(server, 'listening');
    let connections = 0;
    server.on('connection', () => connections++);
    expect(await codeOfPromise(overlay.rename('from', 'to'))).toBe(refused);
    await sleep(20);
    expect(connections).toBe(0);
    server.close();
    await once(server, 'close');
    {
      await using bound = await boundSocket(overlay.path('from/datagram'));
      expect(bound.pid).toBeGreaterThan(0);
      expect(await codeOfPromise(overlay.rename('from', 'to'))).toBe(refused);
    }
    // Nobody has it any more.
    expect(await overlay.rename('from', 'to')).toMatchObject({ method: 'copy' });
    expect(lstatSync(overlay.path('to/datagram')).isSocket()).toBe(true);
  });

  it('is refused while a file in it is open for writing', async () => {
    const overlay = await overlayOf(scratch, fewFiles);
    const fd = openSync(overlay.path('from/sub/file'), 'a');
    const error = await expectNothingDone(overlay, () => overlay.rename('from', 'to'), refused);
    expect(error).toMatchObject({ path: 'from/sub/file' });
    expect(error.message).toMatch('open for writing');
    closeSync(fd);
    const reading = openSync(overlay.path('from/sub/file'), 'r');
    await overlay.rename('from', 'to');
    closeSync(reading);
  });

  it('is refused while another one of it is under way', async () => {
    const overlay = await overlayOf(scratch, manyFiles(300));
    const codes = await Promise.all(['one', 'two'].map((to) => codeOfPromise(overlay.rename('from', to))));
    expect(codes).toContain(undefined);
    expect(readdirSync(overlay.path())).toHaveLength(2);
    expect([refused, 'ENOENT']).toContain(codes.find((code) => code !== undefined));
  });

  it('is refused where no path leads', async () => {
    const overlay = await overlayOf(scratch, []);
    const make = `import os\nos.chdir('${scratch.path('lower/from')}')\nfor i in range(2100): os.mkdir('d'); os.chdir('d')`;
    execFileSync('python3', ['-c', make]);
    const error = await overlay.rename('from', 'to').catch((reason) => reason);
    expect(error).toMatchObject({ code: refused });
    expect(readdirSync(overlay.path()).sort()).toEqual(['from', 'hello']);
  });
});

async function boundSocket(path: string) {
  const program =
    'import socket,sys; s=socket.socket(socket.AF_UNIX,socket.SOCK_DGRAM); s.bind(sys.argv[1]); print("ready",flush=True); sys.stdin.read()';
  const child = spawn('python3', ['-c', program, path], { stdio: ['pipe', 'pipe', 'inherit'] });
  await once(child.stdout, 'data');
  return {
    pid: child.pid ?? 0,
    [Symbol.asyncDispose]: async () => {
      const ended = once(child, 'exit');
      child.stdin.end();
      await ended;
    },
  };
}

describePrivileged('rename() that is disturbed', () => {
  const scratch = scratchOn();

  const untilStaged = async (overlay: Overlay): Promise<void> => {
    while (staged(readdirSync(overlay.path())).length === 0) await sleep(0);
  };

  it.each<[string, (at: (name: string) => string) => void]>([
    ['a file is written', (at) => writeFileSync(at('file-0'), 'changed')],
    ['a file is made', (at) => writeFileSync(at('sub/new'), '')],
    ['a file is removed', (at) => unlinkSync(at('file-2'))],
    ['a file gets another name', (at) => linkSync(at('file-4'), at('sub/other-name'))],
    ['a file is replaced', (at) => renameSync(at('file-6'), at('file-8'))],
  ])('takes everything back when %s meanwhile', async (_, change) => {
    const overlay = await overlayOf(scratch, manyFiles(2000));
    const renaming = codeOfPromise(overlay.rename('from', 'to'));
    await untilStaged(overlay);
    change((name) => overlay.path('from', name));
    const changed = await seeTree(overlay.path('from'));
    expect(['ERR_OVERLAY_RENAME_CHANGED', 'ERR_OVERLAY_RENAME_REFUSED']).toContain(await renaming);
    expect(await seeTree(overlay.path('from'))).toEqual(changed);
    expect(readdirSync(overlay.path()).sort()).toEqual(['from', 'hello']);
  });

  it('is done or not done when it is aborted, and never something between', async () => {
    const overlay = await overlayOf(scratch, manyFiles(400));
    let [from, to] = ['from', 'to'];
    const before = await seeTree(overlay.path(from));
    const parent = statSync(overlay.path(), { bigint: true }).mtimeNs;
    await expect(overlay.rename(from, to, { signal: AbortSignal.abort() })).rejects.toThrow('aborted');
    const outcomes = new Set<string>();
    for (let i = 0; i < 25; i++) {
      const controller = new AbortController();
      setTimeout(() => controller.abort(), i * 3);
      const outcome = await overlay.rename(from, to, { signal: controller.signal }).then(
        () => 'done',
        (error) => error.name as string,
      );
      outcomes.add(outcome);
      if (outcome === 'done') [from, to] = [to, from];
      expect(readdirSync(overlay.path()).sort()).toEqual([from, 'hello'].sort());
      expect(await seeTree(overlay.path(from))).toEqual(before);
      if (!outcomes.has('done')) expect(statSync(overlay.path(), { bigint: true }).mtimeNs).toBe(parent);
    }
    expect(outcomes).toContain('AbortError');
  });

  it('tells how far it has got', async () => {
    const overlay = await overlayOf(scratch, manyFiles(50));
    const told: unknown[] = [];
    const result = await overlay.rename('from', 'to', { onProgress: (done) => told.push(done) });
    expect(told.at(-1)).toEqual({ entries: result.entries, bytes: result.bytes });
    expect(result).toMatchObject({ entries: 52, bytes: 34_000n });
  });

  it('holds unmount() up until it is over', async () => {
    const overlay = await overlayOf(scratch, manyFiles(200));
    const renaming = overlay.rename('from', 'to');
    await overlay.unmount();
    await expect(renaming).resolves.toMatchObject({ method: 'copy' });
  });

  it('touches nothing outside while a directory is swapped for a symbolic link', async () => {
    const outside = scratch.directory('outside');
    writeFileSync(`${outside}/precious`, 'precious');
    const overlay = await overlayOf(scratch, manyFiles(40));
    mkdirSync(overlay.path('from/own'));
    writeFileSync(overlay.path('from/own/precious'), 'inside');
    {
      await using _ = await swappingShell(overlay.path('from'), outside);
      for (let i = 0; i < 30; i++) {
        if ((await codeOfPromise(overlay.rename('from', 'to'))) === undefined) break;
      }
    }
    expect(readdirSync(outside)).toEqual(['precious']);
    expect(readFileSync(`${outside}/precious`, 'utf8')).toBe('precious');
  });

  it('is forgiven a killed process: the original is whole, and the next one clears up', async () => {
    const { lower, upper, work, target } = scratch.layers();
    await buildTree(scratch.directory('lower/from'), manyFiles(3000));
    const before = await seeTree(`${lower}/from`);
    const program = `const [lower, upper, work, target] = process.argv.slice(-4);
      const overlay = await overlayfs.mountOverlay({ lower, upper, work, target, keepOnExit: true });
      const { readdirSync } = await import('node:fs');
      const until = setInterval(() => {
        if (readdirSync(target).some((name) => name.startsWith('.overlayfs-rename-'))) process.kill(process.pid, 'SIGKILL');
      });
      await overlay.rename('from', 'to');`;
    await expect(runChild(program, { args: [lower, upper, work, target] })).rejects.toThrow(
      'reported nothing',
    );
    execFileSync('umount', [target]);
    await using overlay = await mountOverlay({ lower, upper, work, target });
    expect(await seeTree(`${target}/from`)).toEqual(before);
    expect(staged(readdirSync(target))).toHaveLength(1);

    // Somebody else's directories of such names, and one that is being used.
    const theirs = '.overlayfs-rename-0123456789abcdef';
    mkdirSync(`${target}/${theirs}`, 0o700);
    writeFileSync(`${target}/${theirs}/copy`, 'theirs');
    const used = '.overlayfs-rename-00000000000000aa';
    mkdirSync(`${target}/${used}`, 0o700);
    await using lock = await waitingShell(`exec 9< '${target}/${used}'; flock -x 9`);
    expect(lock.pid).toBeGreaterThan(0);
    const unused = '.overlayfs-rename-00000000000000bb';
    mkdirSync(`${target}/${unused}`, 0o700);
    await overlay.rename('from', 'to');
    expect(await seeTree(`${target}/to`)).toEqual(before);
    expect(staged(readdirSync(target)).sort()).toEqual([used, theirs].sort());
    expect(readFileSync(`${target}/${theirs}/copy`, 'utf8')).toBe('theirs');
  });
});
