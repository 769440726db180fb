// @module-tag vm
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chownSync,
  closeSync,
  existsSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import {
  createWhiteout,
  createWhiteouts,
  isWhiteout,
  mountOverlay,
  readOverlayXattrs,
  removeWhiteout,
  renameWithWhiteout,
  setOpaque,
  type WhiteoutOptions,
} from '../../lib/index.ts';
import { runChild } from '../support/child.ts';
import { mkfifo, mknod, mount, umount } from '../support/commands.ts';
import { digTree } from '../support/deep-tree.ts';
import { openDirectories, openings } from '../support/directories.ts';
import { readsXattrWhiteouts } from '../support/kernel.ts';
import { describePrivileged, needsKernel } from '../support/needs.ts';
import { expectRefusal } from '../support/refusal.ts';
import { afterThisTest, describeOn, fileSystems, scratchOn } from '../support/scratch.ts';
import { snapshot } from '../support/snapshot.ts';
import { setXattrs } from '../support/xattr.ts';

const invalid = { code: 'ERR_INVALID_ARG_VALUE' };
const O_NONBLOCK = 0o4000;

/** Every name in a directory, and whether it can be looked at: a whiteout that the kernel does not take as one shows here. */
const shown = (directory: string) => ({
  listed: readdirSync(directory).sort(),
  found: readdirSync(directory)
    .filter((name) => existsSync(join(directory, name)))
    .sort(),
});
const nothing = { listed: [], found: [] };

describeOn(fileSystems, 'whiteouts', (scratch) => {
  const odd = Buffer.from('not UTF-8 \xff, a comma:colon\\\n', 'latin1');
  const paths = ['hello', 'dir/a', 'dir/sub', 'dir/deep/er/file', Buffer.concat([Buffer.from('dir/'), odd])];

  const stack = () => {
    const layers = scratch.layers();
    for (const name of ['dir/a', 'dir/sub/inside', 'dir/deep/er/file', 'dir/kept'])
      scratch.file(`lower/${name}`);
    writeFileSync(Buffer.concat([Buffer.from(`${layers.lower}/dir/`), odd]), '');
    for (const layer of ['upper', 'middle']) scratch.directory(layer, 'dir/deep/er');
    return { ...layers, middle: scratch.path('middle') };
  };
  const expectHidden = (target: string) => {
    expect(shown(target)).toEqual({ listed: ['dir'], found: ['dir'] });
    expect(shown(join(target, 'dir'))).toEqual({ listed: ['deep', 'kept'], found: ['deep', 'kept'] });
    expect(shown(join(target, 'dir/deep/er'))).toEqual(nothing);
  };

  it.for([
    ['devices in an upper', 'upper', { form: 'device' }],
    ['devices that share an inode', 'upper', { form: 'device', share: true }],
    ['devices in a lower', 'middle', { form: 'device' }],
    ['files in a lower', 'middle', { form: 'xattr' }],
    ['files that share an inode', 'middle', { form: 'xattr', share: true }],
    ['files with user attributes', 'middle', { form: 'xattr', userxattr: true }],
  ] as const)(
    'that are %s hide what is below, and show it again when they are removed',
    async ([_, where, given], context) => {
      if (given.form === 'xattr')
        needsKernel(context, await readsXattrWhiteouts(), 'whiteouts that are files (6.7)');
      const { middle, lower, ...layers } = stack();
      const layer = where === 'upper' ? layers.upper : middle;
      const options: WhiteoutOptions = given;
      const namespace = { userxattr: options.userxattr ?? false };
      const { outcomes } = await createWhiteouts(layer, paths, options);
      expect(outcomes).toEqual(['made', ...Array(4).fill(options.share === true ? 'linked' : 'made')]);
      expect(await isWhiteout(layer, paths, namespace)).toEqual(Array(5).fill(options.form));
      expect((await createWhiteouts(layer, paths, options)).outcomes).toEqual(Array(5).fill('present'));
      if (options.share) expect(lstatSync(join(layer, 'hello')).nlink).toBe(5);

      const mounted = { ...layers, lower: [middle, lower], ...namespace };
      await (await mountOverlay(mounted)).unmount();
      await using overlay = await mountOverlay(mounted);
      expectHidden(layers.target);
      await overlay.unmount();

      expect(await removeWhiteout(layer, paths, namespace)).toEqual(Array(5).fill(options.form));
      await using whole = await mountOverlay(mounted);
      expect(shown(layers.target).found).toEqual(['dir', 'hello']);
      expect(readdirSync(join(layers.target, 'dir'))).toHaveLength(5);
      await whole.unmount();
    },
  );

  it('of the kernel are recognised, and ours look like them', async () => {
    const { middle: _, ...layers } = stack();
    const overlay = await mountOverlay(layers);
    unlinkSync(join(layers.target, 'hello'));
    await overlay.unmount();
    expect(await isWhiteout(layers.upper, 'hello')).toBe('device');
    await createWhiteout(layers.upper, 'dir/a');
    const raw = await snapshot(layers.upper);
    const [kernels, ours] = ['hello', 'dir/a'].map((name) => raw[join(layers.upper, name)]);
    expect({ ...ours, links: 0 }).toEqual({ ...kernels, links: 0 });
  });

  it('take the place of a file or an empty directory, where that is asked for', async () => {
    const { upper } = scratch.layers();
    scratch.file('upper/file', 'content');
    scratch.directory('upper/empty');
    scratch.file('upper/full/file');
    symlinkSync('full', join(upper, 'link'));
    const standing = ['file', 'empty', 'link'];
    for (const path of standing)
      await expect(createWhiteout(upper, path)).rejects.toMatchObject({ code: 'EEXIST', path });
    const before = await snapshot(join(upper, 'full'));
    const { outcomes } = await createWhiteouts(upper, ['new', ...standing], { replace: true });
    expect(outcomes).toEqual(['made', 'replaced', 'replaced', 'replaced']);
    await expect(createWhiteout(upper, 'full', { replace: true })).rejects.toMatchObject({
      code: 'ENOTEMPTY',
      path: 'full',
    });
    expect(await snapshot(join(upper, 'full'))).toEqual(before);
    expect(readdirSync(upper).sort()).toEqual(['empty', 'file', 'full', 'link', 'new']);
    expect(await isWhiteout(upper, [...standing, 'full'])).toEqual(['device', 'device', 'device', false]);
  });

  it('are left behind by a rename, as the kernel leaves them', async () => {
    const { middle: _, ...layers } = stack();
    scratch.file('upper/hello', 'of the upper');
    await renameWithWhiteout(layers.upper, 'hello', 'dir/moved');
    expect(await isWhiteout(layers.upper, 'hello')).toBe('device');
    scratch.file('upper/again', 'another');
    const exists = { code: 'EEXIST', path: 'again' };
    await expect(
      renameWithWhiteout(layers.upper, 'again', 'dir/moved', { replace: false }),
    ).rejects.toMatchObject(exists);
    await renameWithWhiteout(layers.upper, 'again', 'dir/moved');
    await using overlay = await mountOverlay(layers);
    expect(existsSync(join(layers.target, 'hello'))).toBe(false);
    expect(readFileSync(join(layers.target, 'dir/moved'), 'utf8')).toBe('another');
    await overlay.unmount();
  });
});

describeOn(['ext4'], 'a hundred thousand whiteouts', (scratch) => {
  it('share inodes as long as the file system lets them, and one more from there on', {
    tags: ['slow'],
  }, async () => {
    const layer = scratch.directory('layer');
    const paths = Array.from({ length: 70_000 }, (_, index) => `${index}`);
    const { outcomes } = await createWhiteouts(layer, paths, { share: true });
    const made = outcomes.filter((outcome) => outcome === 'made');
    expect(made).toHaveLength(2); // EMLINK at 65,000 links
    expect(outcomes.filter((outcome) => outcome === 'linked')).toHaveLength(69_998);
    const forms = await isWhiteout(layer, paths);
    expect(forms.every((form) => form === 'device')).toBe(true);
  });
});

describePrivileged('whiteouts', () => {
  const scratch = scratchOn();

  it('are taken by descriptors of the layer, and made in the order of the directories', async () => {
    const layer = scratch.directory('layer/a/b');
    using open = openDirectories(openings.O_PATH, scratch.path('layer'), layer);
    const [top, deep] = open.refs;
    await createWhiteout(top as { fd: number }, 'a/b/c');
    expect(await isWhiteout(deep as { fd: number }, '/c')).toBe('device');
    const failing = ['x', 'a/y', 'missing/z', 'w'];
    await expect(createWhiteouts(top as { fd: number }, failing)).rejects.toMatchObject({
      code: 'ENOENT',
      path: 'missing/z',
      outcomes: ['made', 'made', undefined, 'made'],
    });
    expect(await createWhiteouts(top as { fd: number }, [])).toEqual({ outcomes: [] });
  });

  it('of other programs are recognised, and what only looks like one is not', async () => {
    const layer = scratch.directory('layer');
    for (const name of ['.wh.image', '.wh.both', 'both', 'plain', 'marked-full'])
      scratch.file(`layer/${name}`);
    scratch.file('layer/marked');
    writeFileSync(join(layer, 'marked-full'), 'content');
    setXattrs(
      [join(layer, 'marked'), 'trusted.overlay.whiteout', ''],
      [join(layer, 'marked-full'), 'trusted.overlay.whiteout', ''],
    );
    mknod(join(layer, 'null'), 'c', 1, 3);
    mknod(join(layer, 'block'), 'b', 0, 0);
    mkfifo(join(layer, 'fifo'));
    scratch.directory('layer/dir');
    const names = [
      'image',
      'marked',
      'both',
      'plain',
      'marked-full',
      'null',
      'block',
      'fifo',
      'dir',
      'no',
      'no/thing',
    ];
    expect(await isWhiteout(layer, [...names, 'plain/below', '.wh.image', 'x'.repeat(255)])).toEqual([
      'aufs',
      'xattr',
      ...Array(12).fill(false),
    ]);
    expect(await removeWhiteout(layer, ['image', 'marked'])).toEqual(['aufs', 'xattr']);
    expect(readdirSync(layer)).not.toContain('.wh.image');
    const kept = await snapshot(layer);
    for (const name of ['plain', 'marked-full', 'null', 'dir', 'no'])
      await expectRefusal(scratch, 'ERR_OVERLAY_NOT_A_WHITEOUT', () => removeWhiteout(layer, name));
    expect(await snapshot(layer)).toEqual(kept);
  });

  it('are refused in an opaque directory and below one, but not at a root, where the kernel sees no mark', async () => {
    const { lower, ...layers } = scratch.layers();
    scratch.directory('upper/dir/sub');
    await setOpaque(layers.upper, 'dir');
    for (const path of ['dir/a', 'dir/sub/a']) {
      const code = 'ERR_OVERLAY_WHITEOUT_IN_OPAQUE';
      const error = await expectRefusal(scratch, code, () => createWhiteout(layers.upper, path));
      expect(error).toMatchObject({ path, outcomes: [undefined] });
      await expectRefusal(scratch, code, () => createWhiteout(layers.upper, path, { form: 'xattr' }));
    }
    scratch.file('upper/dir/file');
    await expectRefusal(scratch, 'ERR_OVERLAY_WHITEOUT_IN_OPAQUE', () =>
      renameWithWhiteout(layers.upper, 'dir/file', 'file'),
    );
    setXattrs([layers.upper, 'trusted.overlay.opaque', 'y']);
    await createWhiteout(layers.upper, 'hello');
    await using overlay = await mountOverlay({ ...layers, lower });
    expect(shown(layers.target)).toEqual({ listed: ['dir'], found: ['dir'] });
    await overlay.unmount();
  });

  it('are made in a tree that is deeper than a stack of calls, and still refused in what is opaque there', {
    tags: ['slow'],
  }, async () => {
    const layer = scratch.directory('layer');
    const levels = 20_000;
    digTree(layer, levels, 'a');
    const told = await runChild<string[]>(
      `const layer = ${JSON.stringify(layer)}, path = 'a/'.repeat(${levels}) + 'gone';
       const made = await overlayfs.createWhiteout(layer, path);
       await overlayfs.setOpaque(layer, 'a/a');
       report([made, await overlayfs.createWhiteout(layer, path + ' too').catch(({ code }) => code)]);`,
      { through: ['prlimit', `--stack=${2 << 20}`] },
    );
    expect(told).toEqual([expect.anything(), 'ERR_OVERLAY_WHITEOUT_IN_OPAQUE']);
    execFileSync('rm', ['-rf', layer]);
  });

  it('that are files mark their directory, and leave no mark where none could be made', async () => {
    const layer = scratch.directory('layer');
    scratch.file('layer/dir/file');
    await expect(createWhiteout(layer, 'dir/file', { form: 'xattr' })).rejects.toMatchObject({
      code: 'EEXIST',
    });
    expect(await readOverlayXattrs(layer, 'dir')).toEqual([]);
    await createWhiteout(layer, 'dir/other', { form: 'xattr' });
    expect(await readOverlayXattrs(layer, 'dir')).toMatchObject([{ kind: 'opaque', mark: 'x' }]);
    expect(await readOverlayXattrs(layer, 'dir/other')).toMatchObject([{ kind: 'whiteout' }]);
  });

  it('that are files are refused in the upper of a live overlay, detached lazily or not, and taken in its lower', async () => {
    const { lower, upper, ...rest } = scratch.layers();
    const overlay = await mountOverlay({ lower, upper, ...rest });
    const inUpper = () => createWhiteout(upper, 'a', { form: 'xattr' });
    await expectRefusal(scratch, 'ERR_OVERLAY_UPPER_IN_USE', inUpper);
    const held = openSync(rest.target, 'r');
    await overlay.unmount({ lazy: true });
    await expectRefusal(scratch, 'ERR_OVERLAY_UPPER_IN_USE', inUpper);
    closeSync(held);
    expect(await inUpper()).toBe('made');
  });

  it('of devices are refused on an overlay, where those that are files are made for one on top', async (context) => {
    needsKernel(context, await readsXattrWhiteouts(), 'escaped attributes (6.7)');
    const layers = scratch.layers();
    scratch.file('base/dir/file');
    const overlay = await mountOverlay(layers);
    const merged = overlay.path();
    const code = 'ERR_OVERLAY_WHITEOUT_ON_OVERLAY';
    const error = await expectRefusal(scratch, code, () => createWhiteout(merged, 'a'));
    expect(error.findings[0]?.fix).toContain("form: 'xattr'");
    writeFileSync(join(merged, 'file'), '');
    await expectRefusal(scratch, code, () => renameWithWhiteout(merged, 'file', 'moved'));
    mkdirSync(join(merged, 'dir'));
    await createWhiteout(merged, 'dir/file', { form: 'xattr' });
    expect(await isWhiteout(merged, 'dir/file')).toBe('xattr');
    const top = await mountOverlay({
      lower: [merged, scratch.path('base')],
      target: scratch.directory('top'),
    });
    expect(shown(top.path('dir'))).toEqual(nothing);
    await top.unmount();
    await overlay.unmount();
  });

  it('never leave the layer, not even by a symbolic link that is swapped in meanwhile', {
    tags: ['slow'],
  }, async () => {
    const outside = scratch.directory('outside');
    const layer = scratch.directory('layer');
    symlinkSync('../outside', join(layer, 'link'));
    symlinkSync(outside, join(layer, 'absolute'));
    for (const path of ['link/a', 'absolute/a', '../outside/a', 'dir/../../outside/a'])
      await expectRefusal(scratch, 'ERR_OVERLAY_PATH_ESCAPES', () => createWhiteout(layer, path));
    scratch.directory('layer/dir/sub');
    const swapping = spawn('python3', [
      '-c',
      `import os
os.chdir(${JSON.stringify(layer)})
print('going', flush=True)
while True:
    os.rename('dir', 'aside'); os.symlink('../outside', 'dir')
    os.unlink('dir'); os.rename('aside', 'dir')`,
    ]);
    await once(swapping.stdout, 'data');
    const ended = { made: 0, escapes: 0, missing: 0 };
    try {
      for (let round = 0; round < 3000; ++round) {
        const made = createWhiteouts(layer, [`dir/${round}`, `dir/sub/${round}`]);
        const code = await made.then(
          () => 'made',
          (error) => error.code,
        );
        expect(['made', 'ERR_OVERLAY_PATH_ESCAPES', 'ENOENT']).toContain(code);
        ended[code === 'made' ? 'made' : code === 'ENOENT' ? 'missing' : 'escapes']++;
      }
    } finally {
      swapping.kill();
      await once(swapping, 'close');
    }
    expect(readdirSync(outside)).toEqual([]);
    expect(ended.made).toBeGreaterThan(0);
    expect(ended.escapes + ended.missing).toBeGreaterThan(0);
  });

  it('are refused where something is mounted on the way', async () => {
    const layer = scratch.directory('layer');
    const point = scratch.directory('layer/dir');
    mount('-t', 'tmpfs', 'none', point);
    afterThisTest(() => umount(point));
    await expectRefusal(scratch, 'ERR_OVERLAY_PATH_ESCAPES', () => createWhiteout(layer, 'dir/a'));
  });

  it('say how far they came when the disk is full, and go on from there', async () => {
    const box = scratch.directory('box');
    mount('-t', 'tmpfs', '-o', 'nr_inodes=4', 'none', box);
    afterThisTest(() => umount(box));
    const paths = ['a', 'b', 'c', 'd', 'e'];
    await expect(createWhiteouts(box, paths)).rejects.toMatchObject({
      code: 'ENOSPC',
      path: 'd',
      outcomes: ['made', 'made', 'made', undefined, undefined],
    });
    expect(readdirSync(box).sort()).toEqual(['a', 'b', 'c']);
    mount('-o', 'remount,nr_inodes=100', box);
    const { outcomes } = await createWhiteouts(box, paths);
    expect(outcomes).toEqual(['present', 'present', 'present', 'made', 'made']);
  });

  it('need no attributes as devices, and say so as files', async () => {
    const box = scratch.directory('box');
    mount('-t', 'ramfs', 'none', box);
    afterThisTest(() => umount(box));
    await createWhiteout(box, 'a');
    expect(await isWhiteout(box, 'a')).toBe('device');
    await expectRefusal(scratch, 'ERR_OVERLAY_LAYER_WITHOUT_XATTRS', () =>
      createWhiteout(box, 'b', { form: 'xattr' }),
    );
  });

  it('are refused on a read-only mount', async () => {
    const box = scratch.directory('box');
    scratch.file('layer/dir/file');
    mount('--bind', '-o', 'ro', scratch.path('layer'), box);
    afterThisTest(() => umount(box));
    for (const form of ['device', 'xattr'] as const)
      await expect(createWhiteout(box, 'dir/a', { form })).rejects.toMatchObject({ code: 'EROFS' });
    await expect(renameWithWhiteout(box, 'dir/file', 'file')).rejects.toMatchObject({ code: 'EROFS' });
  });

  it('need no privilege with user attributes, and are refused where `trusted` ones would be hidden', async () => {
    const layer = scratch.directory('layer');
    chownSync(layer, 65534, 65534);
    const make = () => createWhiteout(layer, 'a');
    await expectRefusal(scratch, 'ERR_OVERLAY_XATTR_HIDDEN', make, { asNobody: true });
    process.seteuid?.(65534);
    try {
      expect(await createWhiteout(layer, 'a', { userxattr: true })).toBe('made');
      scratch.file('layer/file');
      await renameWithWhiteout(layer, 'file', 'moved', { userxattr: true });
    } finally {
      process.seteuid?.(0);
    }
    expect(await isWhiteout(layer, ['a', 'file'])).toEqual(['device', 'device']);
    expect(statSync(layer).uid).toBe(65534);
  });

  it('never open what stands in their place: a FIFO is not waited for', async () => {
    const layer = scratch.directory('layer');
    mkfifo(join(layer, 'fifo'));
    await expect(createWhiteout(layer, 'fifo')).rejects.toMatchObject({ code: 'EEXIST' });
    expect(await createWhiteout(layer, 'fifo', { replace: true })).toBe('replaced');
    mkfifo(join(layer, 'parent'));
    await expect(createWhiteout(layer, 'parent/a')).rejects.toMatchObject({ code: 'ENOTDIR' });
    expect(() => openSync(join(layer, 'fifo'), O_NONBLOCK)).toThrow('ENXIO');
  });

  it('stop when they are told to, and make nothing then', async () => {
    const layer = scratch.directory('layer');
    const signal = AbortSignal.abort(new Error('enough'));
    await expect(createWhiteout(layer, 'a', { signal })).rejects.toThrow('enough');
    expect(readdirSync(layer)).toEqual([]);
    const controller = new AbortController();
    const paths = Array.from({ length: 100_000 }, (_, index) => `${index}`);
    const making = createWhiteouts(layer, paths, { signal: controller.signal });
    const first = (): void =>
      readdirSync(layer).length > 0 ? controller.abort(new Error('half-way')) : void setImmediate(first);
    setImmediate(first);
    await expect(making).rejects.toThrow('half-way');
    const made = readdirSync(layer).length;
    expect(made).toBeLessThan(100_000);
    expect(readdirSync(layer)).toHaveLength(made);
  });

  it('are asked for with known options and sound arguments', async () => {
    const layer = scratch.directory('layer');
    const wrong: readonly [unknown, object?][] = [
      ['a\0b'],
      [7],
      ['a', { form: 'aufs' }],
      ['a', { share: 'yes' }],
      ['a', { shared: true }],
      ['a', { signal: 'now' }],
    ];
    for (const [path, options] of wrong)
      await expect(createWhiteout(layer, path as string, options)).rejects.toMatchObject(invalid);
    await expect(createWhiteouts(layer, 'a' as never)).rejects.toMatchObject(invalid);
    // biome-ignore lint/suspicious/noSparseArray: what a careless caller may hand over
    await expect(createWhiteouts(layer, ['a', , 'b'] as never)).rejects.toMatchObject(invalid);
    await expect(createWhiteout(layer, '')).rejects.toMatchObject({ code: 'ERR_OVERLAY_EMPTY_PATH' });
    await expectRefusal(scratch, 'ERR_OVERLAY_LAYER_ROOT', () => createWhiteout(layer, '/'));
    await expectRefusal(scratch, 'ERR_OVERLAY_LAYER_ROOT', () => createWhiteout(layer, '.'));
    await expect(createWhiteout(layer, 'x'.repeat(256))).rejects.toMatchObject({ code: 'ENAMETOOLONG' });
    await expectRefusal(scratch, 'ERR_OVERLAY_LAYER_NOT_FOUND', () => createWhiteout(join(layer, 'no'), 'a'));
    const missing = { code: 'ENOENT', path: 'no/b' };
    await expect(renameWithWhiteout(layer, 'a', 'no/b')).rejects.toMatchObject(missing);
    await expect(renameWithWhiteout(layer, 'a', 'b')).rejects.toMatchObject({ code: 'ENOENT', path: 'a' });
    expect((await createWhiteouts(layer, ['./a', 'b/', '/c//'])).outcomes).toHaveLength(3);
    expect(readdirSync(layer).sort()).toEqual(['a', 'b', 'c']);
  });
});
