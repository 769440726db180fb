// Each way in which an upper can change its lowers, made by the kernel itself on a real mount.
import { execFileSync, spawn } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  existsSync,
  lchownSync,
  linkSync,
  lutimesSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmdirSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, it } from 'vitest';
import {
  applyChanges,
  changes,
  formatSummary,
  type LayerStack,
  listOverlays,
  mountOverlay,
  type Overlay,
  type OverlayOptions,
  summarize,
} from '../../lib/index.ts';
import { runChild } from '../support/child.ts';
import { digTree } from '../support/deep-tree.ts';
import { describePrivileged } from '../support/needs.ts';
import { expectRefusal } from '../support/refusal.ts';
import { afterThisTest, openFiles, type Scratch, scratchOn } from '../support/scratch.ts';
import { everything, line, lines, setXattrs } from '../support/told.ts';

interface Ground {
  readonly overlay: Overlay;
  /** The layers of the same overlay, for when it is not mounted. */
  readonly stack: LayerStack;
  readonly lower: string;
  readonly upper: string;
  /** A path in the mounted overlay. */
  readonly at: (path: string) => string;
}

const old = new Date('2001-02-03T04:05:06.789Z');

/** Lowers from functions that fill them, topmost first, under a mounted overlay. */
async function mounted(
  scratch: Scratch,
  fill: ((at: (path: string) => string) => void) | readonly ((at: (path: string) => string) => void)[],
  options: Partial<OverlayOptions> = {},
): Promise<Ground> {
  const fills = typeof fill === 'function' ? [fill] : fill;
  const lower = fills.map((make, index) => {
    const root = scratch.directory(`lower${index}`);
    make((path) => join(root, path));
    return root;
  });
  const [upper, work, target] = ['upper', 'work', 'merged'].map((name) => scratch.directory(name)) as [
    string,
    string,
    string,
  ];
  const overlay = await mountOverlay({ ...options, lower, upper, work, target });
  afterThisTest(() => overlay.unmount());
  const { index, metacopy, userxattr, redirectDir } = overlay.layers();
  const stack = Object.fromEntries(
    Object.entries({ lower, upper, work, index, metacopy, userxattr, redirectDir }).filter(
      ([, value]) => value !== undefined,
    ),
  ) as unknown as LayerStack;
  return { overlay, stack, lower: lower[0] as string, upper, at: (path) => join(target, path) };
}

/** A file that was written long ago. */
function put(path: string, content = 'content'): void {
  mkdirSync(join(path, '..'), { recursive: true });
  writeFileSync(path, content);
  utimesSync(path, old, old);
}

describePrivileged('changes()', () => {
  const scratch = scratchOn();

  it('tells what is new, changed and gone, in the byte order of paths', async () => {
    const { overlay, at } = await mounted(scratch, (low) => {
      for (const name of ['a/kept', 'a/written', 'gone', 'mode', 'owner', 'touched', 'cut']) put(low(name));
      symlinkSync('there', low('link'));
    });
    writeFileSync(at('a/written'), 'other');
    writeFileSync(at('a-b'), '');
    unlinkSync(at('gone'));
    chmodSync(at('mode'), 0o600);
    chownSync(at('owner'), 1, 2);
    utimesSync(at('touched'), old, new Date());
    truncateSync(at('cut'), 2);
    unlinkSync(at('link'));
    symlinkSync('elsewhere', at('link'));
    mkdirSync(at('new/deep'), { recursive: true });
    expect(await lines(overlay)).toEqual([
      'added file a-b',
      'modified file a/written [mtime,size,content]',
      'modified file cut [mtime,size,content]',
      'deleted file gone',
      'modified symlink link [mtime,size,target]',
      'metadata file mode [mode]',
      'added directory new',
      'added directory new/deep',
      'metadata file owner [uid,gid]',
      'modified file touched [mtime]',
    ]);
    const { result } = await everything(overlay);
    expect(result).toEqual({
      consistent: true,
      errors: [],
      counts: { added: 3, modified: 4, metadata: 2, deleted: 1, replaced: 0, renamed: 0 },
      scannedLower: false,
      renamesCut: false,
    });
  });

  it('tells the same unmounted, without order, with one thread and in batches', async () => {
    const { overlay, stack, at } = await mounted(scratch, (low) => {
      for (let i = 0; i < 300; i++) put(low(`d${i % 7}/${i}`));
    });
    for (let i = 0; i < 300; i += 3) rmSync(at(`d${i % 7}/${i}`));
    for (let i = 1; i < 300; i += 3) writeFileSync(at(`d${i % 7}/${i}`), 'x');
    const told = await lines(overlay);
    expect(told).toHaveLength(200);
    expect(await lines(overlay, { threads: 1 })).toEqual(told);
    expect((await lines(overlay, { order: 'any' })).sort()).toEqual([...told].sort());
    await overlay.unmount();
    expect(await lines(stack)).toEqual(told);
    await using stream = changes(stack);
    const batched: string[] = [];
    for await (const batch of stream.batches()) batched.push(...batch.map(line));
    expect(batched).toEqual(told);
  });

  it('tells every property of a change, also as JSON', async () => {
    const { overlay, at } = await mounted(scratch, (low) => put(low('file'), 'before'));
    writeFileSync(at('file'), 'after that');
    const { told } = await everything(overlay);
    const [change] = told;
    expect(
      JSON.parse(JSON.stringify(change, (_, value) => (typeof value === 'bigint' ? `${value}` : value))),
    ).toEqual({
      kind: 'modified',
      path: 'file',
      pathBytes: { type: 'Buffer', data: [...Buffer.from('file')] },
      type: 'file',
      fields: ['mtime', 'size', 'content'],
      size: '10',
      previousSize: '6',
      allocatedBytes: '4096',
      source: {
        layer: 'upper',
        index: 0,
        path: 'file',
        pathBytes: { type: 'Buffer', data: [...Buffer.from('file')] },
      },
    });
  });

  it('knows whiteouts of every form, and those of nothing', async () => {
    const { overlay, stack, upper } = await mounted(scratch, (low) => {
      for (const name of ['device', 'attribute', 'opaque/hidden', 'kept']) put(low(name));
    });
    await overlay.unmount();
    for (const name of ['device', 'of-nothing']) execFileSync('mknod', [join(upper, name), 'c', '0', '0']);
    writeFileSync(join(upper, 'attribute'), '');
    await setXattrs({ path: join(upper, 'attribute'), xattrs: { 'trusted.overlay.whiteout': '' } });
    // In an opaque directory, and in one that only the upper has, they hide nothing.
    mkdirSync(join(upper, 'opaque'));
    await setXattrs({ path: join(upper, 'opaque'), xattrs: { 'trusted.overlay.opaque': 'y' } });
    mkdirSync(join(upper, 'pure'));
    for (const name of ['opaque/hidden', 'pure/nothing'])
      execFileSync('mknod', [join(upper, name), 'c', '0', '0']);
    expect(await lines(stack)).toEqual([
      'deleted file attribute',
      'deleted file device',
      'replaced directory opaque was directory',
      'added directory pure',
    ]);
  });

  it('tells a deleted directory once, and what was in it if asked', async () => {
    const { overlay, at } = await mounted(scratch, [
      (low) => {
        put(low('d/top'));
        execFileSync('mknod', [low('d/whited'), 'c', '0', '0']);
      },
      (low) => {
        for (const name of ['d/sub/file', 'd/whited', 'd/low']) put(low(name));
      },
    ]);
    rmSync(at('d'), { recursive: true });
    expect(await lines(overlay)).toEqual(['deleted directory d']);
    expect(await lines(overlay, { expand: true })).toEqual([
      'deleted directory d',
      'deleted file d/low',
      'deleted directory d/sub',
      'deleted file d/sub/file',
      'deleted file d/top',
    ]);
  });

  it('tells new directories as added, though the kernel marks them opaque, and replaced ones as replaced', async () => {
    const fill = (low: (path: string) => string) => {
      put(low('parent/file'));
      put(low('again/one'));
      put(low('again/two'));
      put(low('file-to-directory'));
      put(low('directory-to-file/inner'));
    };
    // With an option that forbids changes offline the kernel marks every new directory.
    const { overlay, upper, at } = await mounted(scratch, fill, { redirectDir: 'on' });
    mkdirSync(at('parent/new'));
    writeFileSync(at('parent/new/x'), '');
    rmSync(at('again'), { recursive: true });
    mkdirSync(at('again'));
    writeFileSync(at('again/two'), 'new');
    writeFileSync(at('again/three'), '');
    rmSync(at('file-to-directory'));
    mkdirSync(at('file-to-directory'));
    rmSync(at('directory-to-file'), { recursive: true });
    writeFileSync(at('directory-to-file'), '');
    const xattrs = execFileSync('python3', [
      '-c',
      `import os; print(os.getxattr('${upper}/parent/new', 'trusted.overlay.opaque'))`,
    ]);
    expect(`${xattrs}`).toContain("b'y'");
    expect(await lines(overlay)).toEqual([
      'replaced directory again was directory',
      'added file again/three',
      'added file again/two',
      'replaced file directory-to-file was directory',
      'replaced directory file-to-directory was file',
      'added directory parent/new',
      'added file parent/new/x',
    ]);
    expect(await lines(overlay, { expand: true })).toEqual([
      'replaced directory again was directory',
      'deleted file again/one',
      'added file again/three',
      'replaced file again/two was file',
      'replaced file directory-to-file was directory',
      'deleted file directory-to-file/inner',
      'replaced directory file-to-directory was file',
      'added directory parent/new',
      'added file parent/new/x',
    ]);
  });

  it('tells what a directory held that is a file in the one that came in its place', async () => {
    const { overlay, at } = await mounted(
      scratch,
      (low) => {
        put(low('one/name'));
        put(low('other/name/inner'));
      },
      { redirectDir: 'on' },
    );
    renameSync(at('one'), at('kept'));
    renameSync(at('other'), at('one'));
    renameSync(at('kept'), at('other'));
    const options = { expand: true, renames: false };
    expect(await lines(overlay, options)).toEqual([
      'replaced directory one was directory',
      'replaced directory one/name was file',
      'added file one/name/inner',
      'replaced directory other was directory',
      'replaced file other/name was directory',
      'deleted file other/name/inner',
    ]);
    await using stream = changes(overlay, options);
    for await (const _ of stream);
    expect((await stream.done).consistent).toBe(true);
  });

  it('tells times of directories only if asked, the root included, and other metadata always', async () => {
    const { overlay, at } = await mounted(scratch, (low) => {
      put(low('times/file'));
      put(low('mode/file'));
    });
    writeFileSync(at('times/new'), '');
    writeFileSync(at('new'), '');
    chmodSync(at('mode'), 0o700);
    expect(await lines(overlay)).toEqual([
      'metadata directory mode [mode]',
      'added file new',
      'added file times/new',
    ]);
    expect(await lines(overlay, { dirTimes: true })).toEqual([
      'metadata directory . [mtime]',
      'metadata directory mode [mode]',
      'added file new',
      'metadata directory times [mtime]',
      'added file times/new',
    ]);
    chmodSync(at('.'), 0o711);
    expect((await lines(overlay))[0]).toBe('metadata directory . [mode,mtime]');
  });

  it('follows redirects, relative and absolute, and renames of renames', async () => {
    const { overlay, at } = await mounted(
      scratch,
      (low) => {
        for (const name of ['d/f', 'd/sub/g', 'p/q/r', 'over/x']) put(low(name));
      },
      { redirectDir: 'on' },
    );
    renameSync(at('d'), at('e')); // relative: `d`
    renameSync(at('e/sub'), at('moved')); // absolute: `/d/sub`
    renameSync(at('moved'), at('again'));
    rmSync(at('over/x'));
    rmdirSync(at('over'));
    renameSync(at('p/q'), at('over'));
    writeFileSync(at('again/g'), 'longer content');
    rmSync(at('e/f'));
    expect(await lines(overlay)).toEqual([
      'renamed directory again <- d/sub',
      'modified file again/g <- d/sub/g [mtime,size,content]',
      'renamed directory e <- d [mtime]',
      'deleted file e/f <- d/f',
      'renamed directory over <- p/q over directory',
    ]);
    expect(await lines(overlay, { renames: false })).toEqual([
      'added directory again',
      'added file again/g',
      'deleted directory d',
      'added directory e',
      'replaced directory over was directory',
      'added file over/r',
      'deleted directory p/q',
    ]);
  });

  it('follows redirects that the lowers have themselves', async () => {
    const base = scratch.directory('base');
    put(join(base, 'one/file'));
    const middle = scratch.directory('middle');
    {
      const [work, target] = [scratch.directory('middle-work'), scratch.directory('middle-merged')];
      await using first = await mountOverlay({ lower: base, upper: middle, work, target, redirectDir: 'on' });
      renameSync(first.path('one'), first.path('two'));
    }
    const [upper, work, target] = ['upper', 'work', 'merged'].map((name) => scratch.directory(name)) as [
      string,
      string,
      string,
    ];
    await using overlay = await mountOverlay({
      lower: [middle, base],
      upper,
      work,
      target,
      redirectDir: 'on',
    });
    renameSync(overlay.path('two'), overlay.path('three'));
    chmodSync(overlay.path('three/file'), 0o600);
    expect(await lines(overlay)).toEqual([
      'renamed directory three <- two',
      'metadata file three/file <- two/file [mode]',
    ]);
  });

  it('tells an exchange as two renames, and a directory that has taken the place of one that was renamed', async () => {
    const { overlay, at } = await mounted(
      scratch,
      (low) => {
        put(low('a/in-a'));
        put(low('b/in-b'));
        put(low('old/file'));
      },
      { redirectDir: 'on' },
    );
    for (const [from, to] of [
      ['a', 'tmp'],
      ['b', 'a'],
      ['tmp', 'b'],
      ['old', 'new'],
    ] as const)
      renameSync(at(from), at(to));
    mkdirSync(at('old'));
    expect(await lines(overlay)).toEqual([
      'renamed directory a <- b over directory',
      'renamed directory b <- a over directory',
      'renamed directory new <- old',
      'replaced directory old was directory',
    ]);
    expect(await lines(overlay, { expand: true })).toEqual(await lines(overlay));
    expect((await summarize(overlay)).replaced).toEqual([]); // nothing is gone
  });

  it('does not claim a rename of what is still there', async () => {
    const { overlay, stack, upper } = await mounted(scratch, (low) => put(low('d/f')));
    await overlay.unmount();
    for (const name of ['copy', 'copy-too']) {
      mkdirSync(join(upper, name));
      await setXattrs({ path: join(upper, name), xattrs: { 'trusted.overlay.redirect': '/d' } });
    }
    const copies = [
      'added directory copy',
      'added file copy/f',
      'added directory copy-too',
      'added file copy-too/f',
    ];
    expect((await lines(stack)).sort()).toEqual([...copies].sort());
    execFileSync('mknod', [join(upper, 'd'), 'c', '0', '0']);
    const told = (await lines(stack)).map((one) => one.replace(' [mtime]', ''));
    expect(told).toEqual([
      'renamed directory copy <- d',
      'added directory copy-too',
      'added file copy-too/f',
    ]);
  });

  it('tells renamed files by their origin, and their other names by linkGroup', async () => {
    const { overlay, upper, at } = await mounted(scratch, (low) => {
      for (const name of ['file', 'deleted/inside', 'kept', 'over', 'x/onto']) put(low(name));
      symlinkSync('to', low('link'));
    });
    renameSync(at('file'), at('named'));
    linkSync(at('named'), at('other'));
    renameSync(at('deleted/inside'), at('outside'));
    rmdirSync(at('deleted'));
    renameSync(at('link'), at('x/link'));
    linkSync(at('kept'), at('kept-too'));
    renameSync(at('x/onto'), at('over'));
    const { told } = await everything(overlay);
    expect(told.map(line)).toEqual([
      'deleted directory deleted',
      'added file kept-too',
      'renamed file named <- file',
      'added file other',
      'renamed file outside <- deleted/inside',
      'renamed file over <- x/onto over file',
      'renamed symlink x/link <- link',
    ]);
    const group = (path: string) => told.find((change) => change.path === path)?.linkGroup;
    expect(group('named')).toBe(BigInt(statSync(join(upper, 'named')).ino));
    expect(group('other')).toBe(group('named'));
    expect(group('outside')).toBeUndefined();
    expect(await lines(overlay, { renames: false })).toContain('deleted file file');
  });

  it('compares the attributes of what was renamed into a new directory, of any type', async () => {
    const mark = `import os, sys; os.mkfifo(sys.argv[1]); os.setxattr(sys.argv[1], 'trusted.one', b'x')`;
    const { overlay, at } = await mounted(scratch, (low) => {
      for (const name of ['kept', 'changed']) execFileSync('python3', ['-c', mark, low(name)]);
    });
    mkdirSync(at('new'));
    for (const name of ['kept', 'changed']) renameSync(at(name), at(`new/${name}`));
    await setXattrs({ path: at('new/changed'), xattrs: { 'trusted.one': 'other' } });
    expect(await lines(overlay)).toEqual([
      'added directory new',
      'renamed fifo new/changed <- changed [trusted.one]',
      'renamed fifo new/kept <- kept',
    ]);
  });

  it('leaves files without an origin deleted and added: hard links without an index', async () => {
    const { overlay, at } = await mounted(scratch, (low) => {
      put(low('one'));
      linkSync(low('one'), low('two'));
    });
    renameSync(at('one'), at('three'));
    expect(await lines(overlay)).toEqual(['deleted file one', 'added file three']);
  });

  it('finds the other names of hard links that the index keeps together', async () => {
    const fill = (low: (path: string) => string) => {
      put(low('a'));
      put(low('deep/down/other'));
      mkdirSync(low('d'));
      linkSync(low('a'), low('d/b'));
      linkSync(low('a'), low('c'));
    };
    const { overlay, stack, at } = await mounted(scratch, fill, { index: true });
    expect((await everything(overlay)).result.scannedLower).toBe(false);
    writeFileSync(at('d/b'), 'written by one name');
    unlinkSync(at('c'));
    expect(readFileSync(at('a'), 'utf8')).toBe('written by one name');
    const { told, result } = await everything(overlay);
    expect(told.map(line)).toEqual([
      'modified file a [mtime,size,content]',
      'deleted file c',
      'modified file d/b [mtime,size,content]',
    ]);
    expect(result.scannedLower).toBe(true);
    expect(told[0]?.linkGroup).toBe(told[2]?.linkGroup);
    expect(told[0]?.source?.layer).toBe('work');
    await using stream = changes(overlay);
    for await (const { source } of stream) {
      if (source === undefined) continue;
      await using file = await source.open();
      expect(await file.readFile('utf8')).toBe('written by one name');
    }
    await overlay.unmount();
    // Read without it, the other name shows the old content.
    expect(await lines({ ...stack, index: false })).toEqual([
      'deleted file c',
      'modified file d/b [mtime,size,content]',
    ]);
    const { work: _, ...noWork } = stack;
    await expectRefusal(scratch, 'ERR_OVERLAY_WORK_NEEDED', () => everything(noWork));
    await expectRefusal(scratch, 'ERR_OVERLAY_WORK_NEEDED', () => everything({ ...noWork, index: false }));
  });

  it('tells metacopy files as metadata, with their data in the lower that has it', async () => {
    const { overlay, stack, at } = await mounted(
      scratch,
      [() => {}, (low) => put(low('d/big'), 'x'.repeat(100_000))],
      { metacopy: true },
    );
    chmodSync(at('d/big'), 0o600);
    await using stream = changes(overlay);
    for await (const { kind, fields, size, allocatedBytes, source } of stream) {
      expect({ kind, fields, size, allocatedBytes }).toEqual({
        kind: 'metadata',
        fields: ['mode'],
        size: 100_000n,
        allocatedBytes: 0n,
      });
      expect(source).toMatchObject({ layer: 'lower', index: 1, path: 'd/big' });
      await using file = await source?.open();
      expect((await file?.readFile())?.length).toBe(100_000);
    }
    renameSync(at('d/big'), at('renamed'));
    const [renamed] = (await everything(overlay)).told;
    expect(line(renamed as never)).toBe('renamed file renamed <- d/big [mode]');
    expect(renamed?.source).toMatchObject({ layer: 'lower', index: 1, path: 'd/big' });
    await overlay.unmount();
    // What these options do not honour is refused, as the kernel does.
    await expectRefusal(scratch, 'ERR_OVERLAY_METACOPY_REFUSED', () =>
      everything({ ...stack, metacopy: false, redirectDir: 'follow' }),
    );
  });

  it('drops what was copied up without a change, unless told not to', async () => {
    const { overlay, at } = await mounted(scratch, (low) => {
      for (const name of ['d/same', 'd/undone', 'd/sneaky']) put(low(name), 'content');
      symlinkSync('to', low('link'));
    });
    const touch = (name: string) => utimesSync(at(name), old, old);
    touch('d/same');
    lchownSync(at('link'), 0, 0);
    writeFileSync(at('d/undone'), 'CONTENT');
    writeFileSync(at('d/undone'), 'content');
    touch('d/undone');
    writeFileSync(at('d/sneaky'), 'CONTENT');
    touch('d/sneaky'); // the same size and time as before
    expect(await lines(overlay)).toEqual([]);
    expect(await lines(overlay, { compare: 'content' })).toEqual(['modified file d/sneaky [content]']);
    expect(await lines(overlay, { compare: 'none' })).toEqual([
      'metadata directory .',
      'metadata directory d',
      'modified file d/same',
      'modified file d/sneaky',
      'modified file d/undone',
      'metadata symlink link',
    ]);
  });

  it('reads files where times tell too little', async () => {
    const whole = new Date('2001-02-03T04:05:06Z');
    const { overlay, at } = await mounted(scratch, (low) => {
      for (const name of ['archived', 'archived-same', 'quick']) writeFileSync(low(name), 'content');
      for (const name of ['archived', 'archived-same']) utimesSync(low(name), whole, whole);
    });
    for (const name of ['archived', 'archived-same']) {
      writeFileSync(at(name), name === 'archived' ? 'CONTENT' : 'content');
      utimesSync(at(name), whole, whole);
    }
    const { mtime, atime } = statSync(at('quick'));
    writeFileSync(at('quick'), 'CONTENT');
    lutimesSync(at('quick'), atime, mtime);
    const told = await lines(overlay);
    expect(told).toContain('modified file archived [content]');
    expect(told.join()).not.toContain('archived-same');
    expect(told.join()).toMatch(/modified file quick \[(mtime,)?content\]|modified file quick \[mtime\]/);
  });

  it('compares extended attributes by the names that the overlay shows', async () => {
    const { overlay, lower, at } = await mounted(scratch, (low) => {
      for (const name of ['set', 'changed', 'removed', 'escaped']) put(low(name));
    });
    await setXattrs({ path: join(lower, 'changed'), xattrs: { 'user.one': '1' } });
    await setXattrs({ path: join(lower, 'removed'), xattrs: { 'user.two': '2' } });
    await setXattrs({ path: at('set'), xattrs: { 'user.new': '' } });
    await setXattrs({ path: at('changed'), xattrs: { 'user.one': 'other', 'trusted.too': 'x' } });
    await setXattrs({ path: at('escaped'), xattrs: { 'trusted.overlay.opaque': 'y' } });
    execFileSync('python3', ['-c', `import os; os.removexattr('${at('removed')}', 'user.two')`]);
    expect(await lines(overlay)).toEqual([
      'metadata file changed [trusted.too,user.one]',
      'metadata file escaped [trusted.overlay.opaque]',
      'metadata file removed [user.two]',
      'metadata file set [user.new]',
    ]);
  });

  it('tells special files, and devices by their numbers', async () => {
    const { overlay, at } = await mounted(scratch, (low) => {
      execFileSync('mknod', [low('null'), 'c', '1', '3']);
      execFileSync('mkfifo', [low('pipe')]);
    });
    unlinkSync(at('null'));
    execFileSync('mknod', [at('null'), 'c', '1', '5']);
    chmodSync(at('pipe'), 0o600);
    execFileSync('mknod', [at('block'), 'b', '7', '99']);
    expect(await lines(overlay, { compare: 'content' })).toEqual([
      'added block block',
      expect.stringMatching(/^modified character null \[mtime,rdev\]$/),
      'metadata fifo pipe [mode]',
    ]);
  });

  it('gives names that are not UTF-8 in bytes', async () => {
    const { overlay, at } = await mounted(scratch, () => {});
    const name = Buffer.from('\xff\\x\u00e9', 'latin1');
    writeFileSync(Buffer.concat([Buffer.from(`${at('')}/`), name]), '');
    writeFileSync(at('\ufffd'), '');
    const { told } = await everything(overlay);
    expect(told.map(({ path }) => path)).toEqual(['\ufffd', '\\xff\\x5cx\\xe9']);
    expect(told.map(({ pathBytes }) => pathBytes)).toEqual([Buffer.from('\ufffd'), name]);
  });

  it('tells only what lies below some paths, or all but that', async () => {
    const { overlay, at } = await mounted(scratch, (low) => {
      for (const name of ['a/b/c', 'a/b2', 'gone/x/y']) put(low(name));
    });
    for (const name of ['a/b/c', 'a/b/new', 'a/b2', 'a/other']) writeFileSync(at(name), 'x');
    rmSync(at('gone'), { recursive: true });
    expect(await lines(overlay, { include: ['a/b', '/gone/x/'] })).toEqual([
      'modified file a/b/c [mtime,size,content]',
      'added file a/b/new',
      'deleted directory gone',
    ]);
    expect(await lines(overlay, { exclude: ['a/b', Buffer.from('gone')] })).toEqual([
      'modified file a/b2 [mtime,size,content]',
      'added file a/other',
    ]);
  });

  it('says that the upper changed while it was read', async () => {
    const { overlay, at } = await mounted(scratch, () => {});
    for (let i = 0; i < 5000; i++) writeFileSync(at(`${i}`), '');
    await sleep(10);
    const stream = changes(overlay, { threads: 1 });
    let seen = 0;
    for await (const _ of stream) if (seen++ === 0) writeFileSync(at('meanwhile'), '');
    // The names had been read; the directory was looked at again at its end.
    expect((await stream.done).consistent).toBe(false);
    await stream.close();
  });

  it('takes what changes its type under the walk for what it is by then', async () => {
    const { overlay, stack, upper } = await mounted(scratch, (low) => {
      for (let i = 0; i < 50; i++) put(low(`${i}/file`));
    });
    await overlay.unmount();
    const become = `
import os, shutil, sys, time
os.chdir(sys.argv[1])
end, i = time.monotonic() + 1.5, 0
while time.monotonic() < end:
    i += 7
    path, kind = str(i % 50), i % 4
    if os.path.isdir(path) and not os.path.islink(path): shutil.rmtree(path)
    elif os.path.lexists(path): os.unlink(path)
    if kind == 0: open(path, 'w').close()
    elif kind == 1: os.makedirs(path + '/new')
    elif kind == 2: os.symlink('/etc', path)
    else: os.mknod(path, 0o20000, 0)`;
    const child = spawn('python3', ['-c', become, upper], { stdio: 'inherit' });
    const ended = new Promise((resolve) => child.once('exit', resolve));
    const outcomes = new Set<boolean>();
    while (child.exitCode === null) {
      const { told, result } = await everything(stack, { onError: 'collect', expand: outcomes.has(false) });
      expect(result.errors).toEqual([]);
      expect(told.filter(({ path }) => !/^(\d+(\/(new|file))?|\.)$/.test(path))).toEqual([]);
      outcomes.add(result.consistent);
    }
    expect(await ended).toBe(0);
    expect(outcomes).toContain(false);
  });

  it('gives data through sources until the stream is closed', async () => {
    const { overlay, at } = await mounted(scratch, (low) => put(low('d/f'), 'from the lower'), {
      redirectDir: 'on',
    });
    writeFileSync(at('new'), 'new data');
    renameSync(at('d'), at('e'));
    execFileSync('mkfifo', [at('pipe')]);
    symlinkSync('/etc/passwd', at('link'));
    const stream = changes(overlay, { renames: false });
    const sources: Record<
      string,
      NonNullable<Awaited<ReturnType<typeof everything>>['told'][0]['source']>
    > = {};
    for await (const { path, source } of stream) if (source !== undefined) sources[path] = source;
    const read = async (path: string) => {
      await using file = await sources[path]?.open();
      return file?.readFile('utf8');
    };
    expect(await read('new')).toBe('new data');
    expect(sources['e/f']).toMatchObject({ layer: 'lower', index: 0, path: 'd/f' });
    expect(await read('e/f')).toBe('from the lower');
    await expect(sources.link?.open()).rejects.toMatchObject({ code: 'ERR_OVERLAY_PATH_ESCAPES' });
    const waits = sleep(5000, 'it waits for somebody who writes');
    const pipe = await Promise.race([sources.pipe?.open(), waits]);
    expect(pipe).toMatchObject({ fd: expect.any(Number) });
    if (typeof pipe === 'object') await pipe.close();
    await stream.close();
    await expect(sources.new?.open()).rejects.toMatchObject({ code: 'ERR_OVERLAY_STREAM_CLOSED' });
  });

  it('ends within milliseconds when aborted, and holds back when nobody reads', async () => {
    const { overlay, at } = await mounted(scratch, () => {});
    for (let i = 0; i < 60_000; i++)
      writeFileSync(at(`a rather long name, so that batches are big ${i}`), '');
    const controller = new AbortController();
    const stream = changes(overlay, { signal: controller.signal });
    let aborted = 0;
    const iterate = async () => {
      for await (const _ of stream.batches()) {
        if (aborted !== 0) continue;
        await sleep(50);
        aborted = performance.now();
        controller.abort(new Error('enough'));
      }
    };
    await expect(iterate()).rejects.toThrow('enough');
    expect(performance.now() - aborted).toBeLessThan(100);
    await expect(stream.done).rejects.toThrow('enough');
    await stream.close();
    await expect(everything(overlay, { signal: AbortSignal.abort(new Error('before')) })).rejects.toThrow(
      'before',
    );
    // Left early: what had been delivered is counted.
    const left = changes(overlay);
    for await (const _ of left.batches()) break;
    expect((await left.done).counts.added).toBeGreaterThan(999);
    await left.close();
  });

  it('ends as soon in a directory of many names, whatever it is doing with them', async () => {
    const { stack, upper, overlay } = await mounted(scratch, () => {});
    await overlay.unmount();
    const fill = `
import os, sys
os.chdir(sys.argv[1])
os.mkdir('full'); os.chdir('full')
for i in range(400000): os.mknod('%07d' % (i * 7919 % 1000003))`;
    execFileSync('python3', ['-c', fill, upper]);
    // In processor time, since others may be at work here too.
    const spent: number[] = [];
    for (const milliseconds of [50, 100, 150, 200, 250, 300, 350, 400]) {
      const controller = new AbortController();
      const stream = changes(stack, { signal: controller.signal, threads: 1, renames: false });
      let before = process.cpuUsage();
      setTimeout(() => {
        before = process.cpuUsage();
        controller.abort(new Error('enough'));
      }, milliseconds);
      const iterate = async () => {
        for await (const _ of stream.batches());
      };
      await expect(iterate()).rejects.toThrow('enough');
      const { user, system } = process.cpuUsage(before);
      spent.push((user + system) / 1000);
    }
    expect(spent.filter((one) => one > 100)).toEqual([]);
  });

  it('goes deeper than paths are long and descriptors are many', {
    tags: ['slow'],
    timeout: 120_000,
  }, async () => {
    const { stack, upper, lower, overlay } = await mounted(scratch, () => {});
    await overlay.unmount();
    // Twins of 1,500 levels: names of 30 bytes, so 45,000 bytes of path.
    const dig = `
import os, sys
os.chdir(sys.argv[1])
for i in range(1500):
    name = 'd' * 26 + '%04d' % i
    os.mkdir(name); open('file', 'w').write(sys.argv[2]); os.chdir(name)`;
    execFileSync('python3', ['-c', dig, lower, 'low']);
    execFileSync('python3', ['-c', dig, upper, 'upper']);
    const counted = await runChild<{ modified: number; longest: number }>(
      `let longest = 0;
       const stream = overlayfs.changes(${JSON.stringify(stack)}, { threads: 2 });
       for await (const { pathBytes } of stream) longest = Math.max(longest, pathBytes.length);
       const { counts } = await stream.done;
       report({ modified: counts.modified, longest });`,
      { through: ['prlimit', '--nofile=96:96'] },
    );
    expect(counted).toEqual({ modified: 1500, longest: 1499 * 31 + 4 });
    execFileSync('rm', ['-rf', upper, lower]);
  });

  it('has nothing open but the layers when the walk has ended or been left, and nothing once it is closed', async () => {
    const { stack, overlay, at } = await mounted(scratch, () => {});
    for (let i = 0; i < 2000; i++) {
      mkdirSync(at(`d${i}`));
      put(at(`d${i}/file`));
    }
    await overlay.unmount();
    const before = openFiles();
    const ended = changes(stack, { renames: false });
    for await (const _ of ended);
    const left = changes(stack, { renames: false });
    for await (const _ of left) break;
    // Of each a lower, the upper and the work directory.
    expect(openFiles().length - before.length).toBe(2 * 3);
    await ended.close();
    await left.close();
    expect(openFiles()).toEqual(before);
  });

  it('does not run out of descriptors where nobody closes a stream', async () => {
    const { stack, overlay, at } = await mounted(scratch, () => {});
    put(at('file'));
    await overlay.unmount();
    const told = await runChild<number>(
      `let told = 0;
       for (let i = 0; i < 300; i++) for await (const _ of overlayfs.changes(${JSON.stringify(stack)})) told++;
       report(told);`,
      { through: ['prlimit', '--nofile=256:256'] },
    );
    expect(told).toBe(300);
  });

  it('tells the changes of an overlay that somebody else has mounted, if the mount table names its layers', async () => {
    const listed = async (name: string, script: string) => {
      const { target } = scratch.layers(name);
      execFileSync('sh', [
        '-ec',
        `cd "$1" && mount -t overlay theirs merged -o ${script}`,
        'sh',
        scratch.path(name),
      ]);
      afterThisTest(() => execFileSync('umount', [target]));
      put(join(target, 'new'));
      const [one] = (await listOverlays()).filter((overlay) => overlay.target === target);
      return one as NonNullable<typeof one>;
    };
    const named = await listed('named', 'lowerdir="$PWD/lower",upperdir="$PWD/upper",workdir="$PWD/work"');
    expect(await lines(named)).toEqual(['added file new']);
    expect((await summarize(named)).counts.added).toBe(1);
    const relative = await listed('relative', 'lowerdir=lower,upperdir=upper,workdir=work');
    await expect(lines(relative)).rejects.toMatchObject({ code: 'ERR_OVERLAY_LAYERS_UNKNOWN' });
  });

  it('takes little memory for a tree of 3,000 levels, and names everything in it', {
    tags: ['slow'],
    timeout: 120_000,
  }, async () => {
    const { stack, upper, lower, overlay } = await mounted(scratch, () => {});
    await overlay.unmount();
    const levels = 3000;
    digTree(lower, levels, 'd'.repeat(34), 'low');
    digTree(upper, levels, 'd'.repeat(34), 'upper');
    const told = await runChild<{ wrong: number; modified: number; megabytes: number }>(
      `const stream = overlayfs.changes(${JSON.stringify(stack)}, { threads: 2 });
       let [at, wrong] = [${levels}, 0];
       for await (const { path } of stream) if (path !== 'd'.repeat(34).concat('/').repeat(--at) + 'file') wrong++;
       const { modified } = (await stream.done).counts;
       report({ wrong, modified, megabytes: process.resourceUsage().maxRSS / 1024 });`,
    );
    expect(told).toMatchObject({ wrong: 0, modified: levels });
    expect(told.megabytes).toBeLessThan(450);
    execFileSync('rm', ['-rf', upper, lower]);
  });

  it('is iterated once', async () => {
    const { overlay } = await mounted(scratch, () => {});
    const stream = changes(overlay);
    for await (const _ of stream);
    expect(() => stream.batches()).toThrow('only once');
    await stream.close();
    await stream.close();
    for (const way of ['batches', 'one by one']) {
      const left = changes(overlay);
      const iteration = (way === 'batches' ? left.batches() : left)[Symbol.asyncIterator]();
      await iteration.return?.();
      expect((await left.done).counts.added).toBe(0);
    }
    const closed = changes(overlay);
    await closed.close();
    expect((await closed.done).counts.added).toBe(0);
  });

  it.each(['batches', 'one by one'] as const)(
    'has one consumer: whoever comes second, to %s, gets nothing, and ends nothing',
    async (way) => {
      const { overlay, at } = await mounted(scratch, () => {});
      for (let i = 0; i < 3000; i++) writeFileSync(at(`file ${i}`), '');
      await using stream = changes(overlay);
      let settled = false;
      stream.done.then(() => (settled = true));
      let [seen, refused] = [0, 0];
      for await (const batch of stream.batches()) {
        seen += batch.length;
        const second = () => (way === 'batches' ? stream.batches() : stream)[Symbol.asyncIterator]();
        try {
          await second().return?.();
        } catch (error) {
          expect(error).toMatchObject({ code: 'ERR_INVALID_ARG_VALUE', message: /only once/ });
          refused++;
        }
        await sleep(1);
        expect(settled && seen < 3000).toBe(false);
      }
      expect(refused).toBeGreaterThan(2);
      expect(seen).toBe(3000);
      expect((await stream.done).counts.added).toBe(3000);
    },
  );

  it('belongs to who has an iterator, begun or not', async () => {
    const { overlay, at } = await mounted(scratch, () => {});
    writeFileSync(at('file'), '');
    await using stream = changes(overlay);
    const first = stream[Symbol.asyncIterator]();
    expect(() => stream[Symbol.asyncIterator]()).toThrow('only once');
    await expect(applyChanges(stream, scratch.directory('target'))).rejects.toMatchObject({
      code: 'ERR_INVALID_ARG_VALUE',
    });
    expect((await first.next()).value).toMatchObject({ path: 'file' });
    expect(await first.next()).toMatchObject({ done: true });
    expect((await stream.done).counts.added).toBe(1);
  });

  it('delivers nothing more once it is closed', async () => {
    const { overlay, at } = await mounted(scratch, () => {});
    for (let i = 0; i < 3000; i++) writeFileSync(at(`file ${i}`), '');
    const stream = changes(overlay);
    let seen = 0;
    const iterate = async () => {
      for await (const batch of stream.batches()) {
        seen += batch.length;
        await sleep(100); // the next batch is there by now
        await stream.close();
      }
    };
    await expect(iterate()).rejects.toMatchObject({ code: 'ERR_OVERLAY_STREAM_CLOSED' });
    expect((await stream.done).counts.added).toBe(seen);
  });
});

describePrivileged('changes() refuses, and says why,', () => {
  const scratch = scratchOn();

  /** An upper that is filled by hand. */
  async function damaged(fill: (upper: string) => unknown): Promise<LayerStack> {
    const { stack, upper, overlay } = await mounted(scratch, (low) => {
      put(low('a/file'));
      put(low('z'));
    });
    await overlay.unmount();
    mkdirSync(join(upper, 'bad'));
    writeFileSync(join(upper, 'good'), '');
    await fill(upper);
    return stack;
  }
  const marked = (name: string, value: string) =>
    damaged((upper) =>
      setXattrs({ path: join(upper, 'bad'), xattrs: { [`trusted.overlay.${name}`]: value } }),
    );

  it.each([
    ['a redirect that is no path', 'a/b', 'ERR_OVERLAY_REDIRECT_REFUSED'],
    ['a redirect with an empty name', '/a//b', 'ERR_OVERLAY_REDIRECT_REFUSED'],
    ['a redirect that leads out', '/../etc', 'ERR_OVERLAY_REDIRECT_REFUSED'],
  ])('%s', async (_, redirect, code) => {
    const stack = await marked('redirect', redirect);
    const error = await expectRefusal(scratch, code, () => everything(stack));
    expect(error.path).toBe('bad');
    const { told, result } = await everything(stack, { onError: 'collect' });
    expect(told.map(line)).toEqual(['added file good']);
    expect(result.errors.map((one) => (one as typeof error).code)).toEqual([code]);
  });

  it('a redirect under nofollow, and a redirect to itself is none', async () => {
    const stack = await marked('redirect', '/a');
    await expectRefusal(scratch, 'ERR_OVERLAY_REDIRECT_REFUSED', () =>
      everything({ ...stack, redirectDir: 'nofollow' }),
    );
    expect(await lines(await marked2('a', '/a'))).toEqual(['added file good']);
  });
  const marked2 = async (name: string, redirect: string) => {
    rmSync(scratch.path('upper'), { recursive: true });
    return damaged(async (upper) => {
      rmdirSync(join(upper, 'bad'));
      mkdirSync(join(upper, name));
      await setXattrs({ path: join(upper, name), xattrs: { 'trusted.overlay.redirect': redirect } });
    });
  };

  it('opaque with a value that the kernel does not know is no mark', async () => {
    const stack = await damaged(async (upper) => {
      mkdirSync(join(upper, 'a'));
      await setXattrs({ path: join(upper, 'a'), xattrs: { 'trusted.overlay.opaque': '?' } });
    });
    expect(await lines(stack)).toEqual(['added directory bad', 'added file good']);
  });

  it('a metacopy file that is malformed, or has no data below', async () => {
    for (const value of ['abc', '']) {
      rmSync(scratch.path('upper'), { recursive: true, force: true });
      const stack = await damaged((upper) =>
        setXattrs({ path: join(upper, 'good'), xattrs: { 'trusted.overlay.metacopy': value } }),
      );
      await expectRefusal(scratch, 'ERR_OVERLAY_METACOPY_REFUSED', () =>
        everything({ ...stack, metacopy: true }),
      );
    }
  });

  it('what fuse-overlayfs and AUFS leave', async () => {
    const fuse = await damaged((upper) =>
      setXattrs({ path: join(upper, 'bad'), xattrs: { 'user.fuseoverlayfs.opaque': 'y' } }),
    );
    await expectRefusal(scratch, 'ERR_OVERLAY_FOREIGN_LAYER', () => everything(fuse));
    rmSync(scratch.path('upper'), { recursive: true });
    const aufs = await damaged((upper) => writeFileSync(join(upper, '.wh.z'), ''));
    await expectRefusal(scratch, 'ERR_OVERLAY_FOREIGN_LAYER', () => everything(aufs));
  });

  it.each(['opaque', 'redirect', 'metacopy', 'whiteout'])(
    'a mark %s of an overlay that keeps its attributes in the other namespace',
    async (name) => {
      for (const [prefix, userxattr] of [
        ['user', false],
        ['trusted', true],
      ] as const) {
        rmSync(scratch.path('upper'), { recursive: true, force: true });
        const stack = await damaged((upper) =>
          setXattrs({ path: join(upper, 'good'), xattrs: { [`${prefix}.overlay.${name}`]: 'y' } }),
        );
        const error = await expectRefusal(scratch, 'ERR_OVERLAY_FOREIGN_LAYER', () =>
          everything({ ...stack, userxattr }),
        );
        expect(error).toMatchObject({ path: 'good', message: expect.stringContaining('userxattr') });
      }
    },
  );

  it('but not the layers of a rootless overlay that are kept in a new directory', async () => {
    const stack = await damaged((upper) => {
      mkdirSync(join(upper, 'storage/layer/dir'), { recursive: true });
      writeFileSync(join(upper, 'storage/layer/.wh.gone'), '');
      setXattrs({ path: join(upper, 'storage/layer/dir'), xattrs: { 'user.overlay.opaque': 'y' } });
    });
    const { told } = await everything(stack);
    expect(told.map(({ kind, path }) => `${kind} ${path}`)).toEqual(
      expect.arrayContaining(['added storage/layer/.wh.gone', 'added storage/layer/dir']),
    );
  });

  it('layers that are missing, no upper, no privilege, and what is no option', async () => {
    const { lower, upper, work } = scratch.layers();
    const stack = { lower, upper, work };
    await expectRefusal(scratch, 'ERR_OVERLAY_LAYER_NOT_FOUND', () =>
      everything({ ...stack, lower: scratch.path('no') }),
    );
    await expectRefusal(scratch, 'ERR_OVERLAY_UPPER_MISSING', () => everything({ lower }));
    await expectRefusal(scratch, 'ERR_OVERLAY_XATTR_HIDDEN', () => everything(stack), { asNobody: true });
    const wrong = { code: 'ERR_INVALID_ARG_VALUE' };
    for (const options of [
      { compare: 'all' },
      { threads: 0 },
      { include: 'a' },
      { color: true },
      { onError: 1 },
    ]) {
      expect(() => changes(stack, options as never)).toThrow(expect.objectContaining(wrong));
    }
    expect(() => changes(stack, { include: ['../x'] })).toThrow('ERR_OVERLAY_PATH_ESCAPES');
    await expect(summarize(stack, { biggest: -1 })).rejects.toMatchObject(wrong);
  });

  it('an overlay that has been unmounted', async () => {
    const { overlay } = await mounted(scratch, () => {});
    const stream = overlay.changes();
    await overlay.unmount();
    await expect(stream[Symbol.asyncIterator]().next()).rejects.toMatchObject({
      code: 'ERR_OVERLAY_NOT_MOUNTED',
    });
    await expect(stream.done).rejects.toMatchObject({ code: 'ERR_OVERLAY_NOT_MOUNTED' });
    expect(() => overlay.changes()).toThrow('ERR_OVERLAY_NOT_MOUNTED');
  });
});

describePrivileged('summarize()', () => {
  const scratch = scratchOn();

  it('tells what is gone first and in full, what it takes, and what it wastes', async () => {
    const { overlay, at } = await mounted(scratch, (low) => {
      for (let i = 0; i < 100; i++) put(low(`gone/${i}`));
      put(low('directory/file'));
      put(low('mode'), 'x'.repeat(10_000));
      put(low('renamed'), 'x'.repeat(20_000));
    });
    for (let i = 0; i < 100; i++) unlinkSync(at(`gone/${i}`));
    rmSync(at('directory'), { recursive: true });
    writeFileSync(at('directory'), '');
    chmodSync(at('mode'), 0o600);
    renameSync(at('renamed'), at('name'));
    writeFileSync(at('big'), 'x'.repeat(100_000));
    const summary = await overlay.summarize({ biggest: 2 });
    expect(summary.deleted).toHaveLength(100);
    expect(summary.replaced.map(({ path, type }) => [path, type])).toEqual([['directory', 'directory']]);
    expect(summary.bytesAdded).toBe(102_400n);
    expect(summary.bytesWasted).toBe(12_288n + 20_480n);
    expect(summary.biggest.map(({ path, bytes }) => [path, bytes])).toEqual([
      ['big', 102_400n],
      ['name', 20_480n],
    ]);
    expect(summary.counts).toEqual({
      added: 1,
      modified: 0,
      metadata: 1,
      deleted: 100,
      replaced: 1,
      renamed: 1,
    });
    const text = formatSummary(summary);
    expect(text.split('\n').slice(0, 2)).toEqual(['Deleted (100):', '  gone/0']);
    expect(text).toContain('Replaced (1):\n  directory/');
    expect(text).toContain('Changes: 1 added, 1 metadata, 100 deleted, 1 replaced, 1 renamed.');
    expect(text).toContain('New data: 100.0 KiB.');
    expect(text).toContain('only metadata or the name changed: 32.0 KiB.');
    expect(existsSync(at('big'))).toBe(true);
  });

  it('tells all of an upper with no lower as added', async () => {
    scratch.file('upper/dir/file');
    await using stream = changes({ lower: [], upper: scratch.path('upper') });
    const told: string[] = [];
    for await (const { kind, path } of stream) told.push(`${kind} ${path}`);
    expect(told).toEqual(['added dir', 'added dir/file']);
  });

  it('says that nothing has changed', async () => {
    const { overlay } = await mounted(scratch, () => {});
    expect(formatSummary(await summarize(overlay))).toBe('Nothing has changed.');
  });
});
