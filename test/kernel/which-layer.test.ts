// @module-tag vm
// What whichLayer() tells beside the place: the way there, what is hidden and why, what the options do not honour.
import {
  chmodSync,
  closeSync,
  linkSync,
  lstatSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { expect, it } from 'vitest';
import {
  type LayerPlace,
  type LayerStack,
  listOverlays,
  mountOverlay,
  type OverlayOptions,
  openLayers,
  whichLayer,
} from '../../lib/index.ts';
import { kernelFeatures } from '../../lib/inspect/kernel.ts';
import { mknod, mount, removeTree, run, umount } from '../support/commands.ts';
import { readsXattrWhiteouts } from '../support/kernel.ts';
import { describePrivileged, needsKernel } from '../support/needs.ts';
import { expectRefusal } from '../support/refusal.ts';
import { afterThisTest, scratchOn } from '../support/scratch.ts';
import { setXattr } from '../support/xattr.ts';

const short = ({ layer, index, path }: LayerPlace) =>
  layer === 'lower' || layer === 'dataOnlyLower' ? `${layer}[${index}]:${path}` : `${layer}:${path}`;
const whiteout = (path: string) => mknod(path, 'c', 0, 0);

describePrivileged('whichLayer', () => {
  const scratch = scratchOn('ext4'); // a tmpfs has no user attributes before Linux 6.6
  const stack = (...lowers: string[]) => ({
    lower: lowers.map((name) => scratch.directory(name)),
    upper: scratch.directory('upper'),
    work: scratch.directory('work'),
  });
  // The errno's name that a mount answers with; undefined: it shows the path.
  async function shownBy(options: OverlayOptions, path: string): Promise<string | undefined> {
    await using overlay = await mountOverlay({ ...options, target: scratch.directory('mounted') });
    try {
      lstatSync(overlay.path(path));
      return undefined;
    } catch (error) {
      return (error as NodeJS.ErrnoException).code;
    }
  }

  it('names the layer, the place in it and the whole path', async () => {
    const layers = stack('one', 'two');
    scratch.file('two/etc/hosts', 'below');
    const told = await whichLayer(layers, '/etc//./hosts/');
    const place = {
      layer: 'lower',
      index: 1,
      path: 'etc/hosts',
      pathBytes: Buffer.from('etc/hosts'),
      realPath: scratch.path('two/etc/hosts'),
      realPathBytes: Buffer.from(scratch.path('two/etc/hosts')),
    };
    expect(told).toEqual({
      path: 'etc/hosts',
      pathBytes: Buffer.from('etc/hosts'),
      exists: true,
      type: 'file',
      place,
      data: place,
      merged: [],
      way: [],
      hidden: [],
      findings: [],
    });
    const root = await whichLayer(layers, '/');
    expect(root.merged.map(short)).toEqual(['upper:.', 'lower[0]:.', 'lower[1]:.']);
    expect([root.path, root.type, root.place?.realPath]).toEqual(['.', 'directory', layers.upper]);
  });

  it('is a method of an overlay, which need not have a path, and reads an entry of listOverlays()', async () => {
    const { lower, upper, work, target } = scratch.layers();
    {
      await using view = await mountOverlay({ lower, scratch: true });
      await (await view.open('hello', 'r+')).close();
      const { place, hidden } = await view.whichLayer('hello');
      // No path leads to the scratch tmpfs.
      expect(place).toEqual({ layer: 'upper', index: 0, path: 'hello', pathBytes: Buffer.from('hello') });
      expect(hidden.map(({ realPath, reason }) => [realPath, reason])).toEqual([[`${lower}/hello`, 'file']]);
    }
    mount('-t', 'overlay', '-o', `lowerdir=${lower},upperdir=${upper},workdir=${work}`, 'x', target);
    afterThisTest(() => umount(target));
    const [listed] = (await listOverlays()).filter((one) => one.target === target);
    const { place } = await whichLayer(listed as NonNullable<typeof listed>, 'hello');
    expect(place?.realPath).toBe(`${lower}/hello`);
  });

  it('does not guess the layers that a mount table does not tell', async () => {
    const { lower, upper, work, target } = scratch.layers();
    run(
      ['mount', '-i', '-t', 'overlay', '-o', 'lowerdir=lower,upperdir=upper,workdir=work', 'x', 'merged'],
      scratch.root,
    );
    afterThisTest(() => umount(target));
    const [listed] = (await listOverlays()).filter((one) => one.target === target);
    const { message } = await expectRefusal(scratch, 'ERR_OVERLAY_LAYERS_UNKNOWN', () =>
      whichLayer(listed as NonNullable<typeof listed>, 'hello'),
    );
    expect(message).toContain('lower is relative to a directory that is not known');
    expect((await whichLayer({ lower, upper, work }, 'hello')).exists).toBe(true);
  });

  it('tells whiteouts of both forms, and everything that they hide', async () => {
    const layers = stack('one', 'two', 'three');
    whiteout(`${layers.upper}/gone`);
    scratch.file('one/gone/deep', '1');
    scratch.file('three/gone/deep', '3');
    scratch.file('one/marked', '');
    await setXattr(scratch.path('one/marked'), 'trusted.overlay.whiteout');
    scratch.file('two/marked', 'x');
    const gone = await whichLayer(layers, 'gone/deep');
    expect([gone.exists, gone.error, gone.place]).toEqual([false, 'ENOENT', undefined]);
    expect(gone.way.map((step) => [step.kind, short(step)])).toEqual([['whiteout', 'upper:gone']]);
    expect(gone.hidden.map((one) => [short(one), one.type, one.reason, short(one.by)])).toEqual([
      ['lower[0]:gone/deep', 'file', 'whiteout', 'upper:gone'],
      ['lower[2]:gone/deep', 'file', 'whiteout', 'upper:gone'],
    ]);
    const marked = await whichLayer(layers, 'marked');
    expect(marked.way.map(({ kind }) => kind)).toEqual(['xattr-whiteout']);
    expect(marked.hidden.map(short)).toEqual(['lower[1]:marked']);
    expect(await shownBy(layers, 'marked')).toBe((await readsXattrWhiteouts()) ? 'ENOENT' : undefined);
  });

  it('tells what an opaque directory, a file and a directory hide', async () => {
    const layers = stack('one', 'two', 'three');
    for (const path of ['one/d/f', 'two/d/f', 'two/mixed/f', 'one/file', 'two/file/f']) scratch.file(path);
    scratch.file('one/mixed/f');
    scratch.file('upper/d/f');
    await setXattr(scratch.path('upper/d'), 'trusted.overlay.opaque', 'y');
    scratch.file('upper/mixed/own');
    rmSync(scratch.path('one/mixed'), { recursive: true });
    scratch.file('one/mixed');
    scratch.directory('three/mixed');
    const hidden = async (path: string) =>
      (await whichLayer(layers, path)).hidden.map((one) => [short(one), one.reason, short(one.by)]);
    expect(await hidden('d')).toEqual([
      ['lower[0]:d', 'opaque', 'upper:d'],
      ['lower[1]:d', 'opaque', 'upper:d'],
    ]);
    expect(await hidden('d/f')).toEqual([
      ['lower[0]:d/f', 'opaque', 'upper:d'],
      ['lower[1]:d/f', 'opaque', 'upper:d'],
    ]);
    expect(await hidden('file')).toEqual([['lower[1]:file', 'file', 'lower[0]:file']]);
    expect(await hidden('mixed')).toEqual([
      ['lower[0]:mixed', 'directory', 'upper:mixed'],
      ['lower[1]:mixed', 'file', 'lower[0]:mixed'],
      ['lower[2]:mixed', 'file', 'lower[0]:mixed'],
    ]);
    expect((await whichLayer(layers, 'd')).way.map((step) => [step.kind, short(step)])).toEqual([
      ['opaque', 'upper:d'],
    ]);
    expect((await whichLayer(layers, 'file/f')).error).toBe('ENOTDIR');
  });

  it('follows what rename(2) has left, by name and from the root', async () => {
    const layers = stack('one');
    scratch.file('one/a/b/f', 'content');
    scratch.directory('one/c');
    {
      await using overlay = await mountOverlay({
        ...layers,
        redirectDir: 'on',
        target: scratch.directory('m'),
      });
      renameSync(overlay.path('a/b'), overlay.path('a/sibling'));
      renameSync(overlay.path('a/sibling'), overlay.path('c/moved'));
    }
    const told = await whichLayer(layers, 'c/moved/f');
    expect(told.place && short(told.place)).toBe('lower[0]:a/b/f');
    expect(told.way.map((step) => [step.kind, short(step), step.redirect])).toEqual([
      ['redirect', 'upper:c/moved', '/a/b'],
    ]);
    expect((await whichLayer(layers, 'c/moved')).merged.map(short)).toEqual([
      'upper:c/moved',
      'lower[0]:a/b',
    ]);
    const gone = await whichLayer(layers, 'a/b');
    expect([gone.error, gone.hidden.map(short)]).toEqual(['ENOENT', ['lower[0]:a/b']]);
  });

  it('finds the data of a metacopy file, in a lower or a data-only layer', async (context) => {
    needsKernel(context, (await kernelFeatures()).nativeParser, 'data-only layers (6.5)');
    const layers = { ...stack('one', 'meta'), dataOnlyLower: [scratch.directory('data')], metacopy: true };
    scratch.file('one/f', 'content');
    scratch.file('data/store/x', 'stored');
    scratch.file('meta/image', '      ');
    await setXattr(scratch.path('meta/image'), 'trusted.overlay.metacopy');
    await setXattr(scratch.path('meta/image'), 'trusted.overlay.redirect', '/store/x');
    {
      await using overlay = await mountOverlay({ ...layers, target: scratch.directory('m') });
      chmodSync(overlay.path('f'), 0o600);
      expect(readFileSync(overlay.path('image'), 'utf8')).toBe('stored');
    }
    const file = await whichLayer(layers, 'f');
    expect([file.place, file.data].map((one) => one && short(one))).toEqual(['upper:f', 'lower[0]:f']);
    expect(file.way.map(({ kind }) => kind)).toEqual(['metacopy']);
    const image = await whichLayer(layers, 'image');
    expect([image.place, image.data].map((one) => one && short(one))).toEqual([
      'lower[1]:image',
      'dataOnlyLower[0]:store/x',
    ]);
  });

  it('finds hard links through the index, and says so where it is not read', async () => {
    const layers = stack('one');
    scratch.file('one/a', 'before');
    linkSync(scratch.path('one/a'), scratch.path('one/b'));
    {
      await using overlay = await mountOverlay({ ...layers, index: true, target: scratch.directory('m') });
      writeFileSync(overlay.path('a'), 'after');
    }
    const linked = await whichLayer({ ...layers, index: true }, 'b');
    expect(linked.place?.layer).toBe('work');
    expect(readFileSync(linked.place?.realPath ?? '', 'utf8')).toBe('after');
    expect(linked.way.map(({ kind }) => kind)).toEqual(['index']);
    expect(linked.findings).toEqual([]);
    const alone = await whichLayer(layers, 'b');
    expect(readFileSync(alone.place?.realPath ?? '', 'utf8')).toBe('before');
    expect(alone.findings).toMatchObject([{ code: 'WARN_OVERLAY_INDEX_IGNORED', severity: 'warning' }]);
    const { work: _, ...withoutWork } = layers;
    await expectRefusal(scratch, 'ERR_OVERLAY_WORK_NEEDED', () =>
      whichLayer({ ...withoutWork, index: true }, 'b'),
    );
    await expectRefusal(scratch, 'ERR_OVERLAY_WORK_NEEDED', () => whichLayer(withoutWork, 'a'));
  });

  const refusals: readonly [
    name: string,
    code: string,
    errno: string,
    xattr: string,
    value: string,
    read?: object,
  ][] = [
    ['a redirect that is no path', 'REDIRECT', 'EINVAL', 'redirect', 'a//b'],
    ['an empty redirect', 'REDIRECT', 'EINVAL', 'redirect', ''],
    ['a redirect out of the layer', 'REDIRECT', 'EACCES', 'redirect', '..'],
    ['a redirect that leads out later', 'REDIRECT', 'EACCES', 'redirect', '/d/../../etc'],
    ['a redirect under nofollow', 'REDIRECT', 'EPERM', 'redirect', 'd', { redirectDir: 'nofollow' }],
    ['a metacopy file under metacopy off', 'METACOPY', 'EPERM', 'metacopy', ''],
    ['a metacopy attribute that is too short', 'METACOPY', 'EIO', 'metacopy', 'abc', { metacopy: true }],
    ['a metacopy file without data', 'METACOPY', 'EIO', 'metacopy', '', { metacopy: true }],
  ];
  it.each(refusals)(
    'explains %s, which the kernel refuses',
    async (_, code, errno, xattr, value, read = {}) => {
      const layers = { ...stack('one', 'two'), ...read };
      scratch.file('two/d/f');
      if (xattr === 'metacopy') scratch.file('one/x', 'x');
      else scratch.directory('one/x');
      await setXattr(scratch.path('one/x'), `trusted.overlay.${xattr}`, value);
      const told = await whichLayer(layers, 'x');
      expect(await shownBy(layers, 'x')).toBe(errno);
      expect([told.exists, told.error]).toEqual([false, errno]);
      expect(told.findings[0]).toMatchObject({ code: `ERR_OVERLAY_${code}_REFUSED`, severity: 'error' });
      expect(told.findings[0]?.path).toMatch(/\/(one|two)\//);
    },
  );

  it('explains layers that lie in each other', async () => {
    const layers = {
      lower: [scratch.directory('one')],
      upper: scratch.directory('one/sub/upper'),
      work: scratch.directory('one/sub/work'),
    };
    const told = await whichLayer(layers, 'sub/upper');
    expect([told.error, told.findings[0]?.code]).toEqual(['ELOOP', 'ERR_OVERLAY_LAYERS_OVERLAP']);
  });

  it('points at attributes that these options do not read', async () => {
    const layers = stack('one', 'two');
    const named = async (path: string, read: Partial<LayerStack> = {}) =>
      (await whichLayer({ ...layers, ...read }, path)).findings.map(({ code, detail }) => [code, detail]);
    for (const [path, xattr, value] of [
      ['one/user', 'user.overlay.opaque', 'y'],
      ['one/fuse', 'user.fuseoverlayfs.opaque', 'y'],
      ['one/value', 'trusted.overlay.opaque', 'z'],
      ['upper/marked', 'trusted.overlay.opaque', 'x'],
    ] as const) {
      await setXattr(scratch.directory(path), xattr, value);
    }
    const code = 'WARN_OVERLAY_XATTR_IGNORED';
    expect(await named('user')).toEqual([
      [code, `${scratch.path('one/user')} has user.overlay.opaque (0x79), which these options do not read`],
    ]);
    expect(await named('user', { userxattr: true })).toEqual([]);
    expect(await named('value', { userxattr: true })).toMatchObject([
      [code, expect.stringContaining('trusted.overlay.opaque')],
    ]);
    for (const path of ['fuse', 'value', 'marked'])
      expect(await named(path)).toMatchObject([[code, expect.any(String)]]);
  });

  it('follows no symbolic link, of the path, of a redirect or in a hostile layer', async () => {
    const layers = { ...stack('one', 'two') };
    symlinkSync('/etc', scratch.path('one/link'));
    scratch.directory('upper/r');
    await setXattr(scratch.path('upper/r'), 'trusted.overlay.redirect', '/link/ssl');
    expect((await whichLayer(layers, 'link')).type).toBe('symlink');
    expect((await whichLayer(layers, 'link/passwd')).error).toBe('ENOTDIR');
    const redirected = await whichLayer(layers, 'r');
    expect(redirected.merged.map(short)).toEqual(['upper:r']);
  });

  it('does not go through a mount inside a layer, which the overlay does not show either', async () => {
    const layers = stack('one');
    const point = scratch.directory('one/mounted');
    mount('-t', 'tmpfs', 'x', point);
    afterThisTest(() => umount(point));
    await expectRefusal(scratch, 'ERR_OVERLAY_PATH_ESCAPES', () => whichLayer(layers, 'mounted'));
  });

  it('reads trees that are deeper than any path may be long', async () => {
    const layers = stack('one', 'two');
    const name = 'n'.repeat(200);
    const deep = `import os, sys
for root in sys.argv[1:]:
    os.chdir(root)
    for i in range(30):
        os.mkdir('${name}')
        os.chdir('${name}')
open('leaf', 'w').close()`;
    run(['python3', '-c', deep, ...layers.lower]);
    const path = `${`${name}/`.repeat(30)}leaf`;
    const { place } = await whichLayer(layers, path);
    expect(place && short(place)).toBe(`lower[1]:${path}`);
    const directory = await whichLayer(layers, path.slice(0, -5));
    expect(directory.merged.map(({ layer, index }) => [layer, index])).toEqual([
      ['lower', 0],
      ['lower', 1],
    ]);
    for (const path of layers.lower) removeTree(path);
  });

  it('takes names of any bytes, and layers by descriptor', async () => {
    const layers = stack('one');
    const name = Buffer.from('\xff\n,:\\', 'latin1');
    mkdirSync(Buffer.concat([Buffer.from(`${layers.lower[0]}/`), name]));
    const fd = openSync(layers.lower[0] as string, 'r');
    const { place } = await whichLayer({ lower: { fd } }, name);
    closeSync(fd);
    expect(place?.pathBytes).toEqual(name);
    expect(statSync(place?.realPathBytes ?? '').isDirectory()).toBe(true);
    await using open = await openLayers(layers);
    expect((await whichLayer(open, name)).exists).toBe(true);
  });

  it('refuses what is no path, no stack, or hidden for want of privilege', async () => {
    const layers = stack('one');
    const wrong = { code: 'ERR_INVALID_ARG_VALUE' };
    await expect(whichLayer(layers, 'a\0b')).rejects.toMatchObject(wrong);
    await expect(whichLayer(layers, 7 as never)).rejects.toMatchObject(wrong);
    await expect(whichLayer({ upper: '/tmp' } as never, 'a')).rejects.toMatchObject(wrong);
    await expectRefusal(scratch, 'ERR_OVERLAY_EMPTY_PATH', () => whichLayer(layers, ''));
    await expectRefusal(scratch, 'ERR_OVERLAY_PATH_ESCAPES', () => whichLayer(layers, 'a/../b'));
    await expectRefusal(scratch, 'ERR_OVERLAY_LAYER_NOT_FOUND', () => whichLayer({ lower: '/nowhere' }, 'a'));
    await expectRefusal(scratch, 'ERR_OVERLAY_XATTR_HIDDEN', () => whichLayer(layers, 'a'), {
      asNobody: true,
    });
    expect(await whichLayer(layers, 'x'.repeat(256))).toMatchObject({ error: 'ENAMETOOLONG', findings: [] });
  });
});
