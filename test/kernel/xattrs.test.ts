// @module-tag vm
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  closeSync,
  fstatSync,
  linkSync,
  lutimesSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmdirSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join, relative } from 'node:path';
import { expect, it } from 'vitest';
import {
  decodeIndexName,
  encodeOverlayXattr,
  escapeOverlayXattr,
  mountOverlay,
  type OverlayOptions,
  type OverlayXattr,
  type OverlayXattrEntry,
  type OverlayXattrValue,
  readOverlayXattrs,
  stripOverlayXattrs,
  support,
  writeOverlayXattrs,
} from '../../lib/index.ts';
import { chattr, mkfifo, mknod, mount, umount } from '../support/commands.ts';
import { digTree } from '../support/deep-tree.ts';
import { readsXattrWhiteouts } from '../support/kernel.ts';
import { describePrivileged, needsKernel } from '../support/needs.ts';
import { pythonNow } from '../support/python.ts';
import { expectRefusal } from '../support/refusal.ts';
import {
  afterThisTest,
  describeOn,
  fileSystems,
  type Layers,
  type Scratch,
  scratchOn,
} from '../support/scratch.ts';
import { snapshot, xattrs } from '../support/snapshot.ts';
import { setXattrs } from '../support/xattr.ts';

const NO_BYTES = Buffer.alloc(0);
const invalid = { code: 'ERR_INVALID_ARG_VALUE' };

/** What an overlay with these options writes while `use` uses it. */
async function afterUse(layers: Layers, options: Partial<OverlayOptions>, use: (merged: string) => void) {
  const overlay = await mountOverlay({ ...layers, ...options });
  try {
    use(layers.target);
  } finally {
    await overlay.unmount();
  }
}

/** Every attribute in a tree, ours beside the bytes that Python reads, path by path. */
async function everyAttribute(root: string, userxattr: boolean) {
  const prefix = userxattr ? 'user.overlay.' : 'trusted.overlay.';
  const raw = await snapshot(root);
  const paths = Object.keys(raw);
  const decoded = await readOverlayXattrs(
    root,
    paths.map((path) => Buffer.from(relative(root, path) || '/', 'latin1')),
    { userxattr },
  );
  return paths.map((path, index) => ({
    path: relative(root, path),
    found: decoded[index] as readonly OverlayXattr[],
    raw: Object.entries(raw[path]?.xattrs ?? {}).filter(([name]) => name.startsWith(prefix)),
  }));
}

/** One attribute of a path. */
async function one<Kind extends OverlayXattr['kind']>(path: string, kind: Kind) {
  const found = (await readOverlayXattrs(path)).find((xattr) => xattr.kind === kind);
  return found as Extract<OverlayXattr, { kind: Kind }> | undefined;
}

/** The handle that the kernel gives for a file, asked by other means. */
const handleOf = pythonNow<string, { type: number; bytes: string }>(`
import ctypes, os
class Handle(ctypes.Structure):
    _fields_ = [('size', ctypes.c_uint), ('type', ctypes.c_int), ('bytes', ctypes.c_ubyte * 128)]
libc = ctypes.CDLL(None, use_errno=True)

def answer(path):
    handle, mount = Handle(128), ctypes.c_int()
    assert libc.name_to_handle_at(-100, os.fsencode(path), ctypes.byref(handle), ctypes.byref(mount), 0) == 0
    return dict(type=handle.type, bytes=bytes(handle.bytes[:handle.size]).hex())
`);

function lowerTree(scratch: Scratch): Layers {
  const layers = scratch.layers();
  for (const name of ['dir/a', 'dir/b', 'gone/x', 'moved/y', 'deep/er/z', 'plain', 'meta', 'linked'])
    scratch.file(`lower/${name}`, `${name} of the lower`);
  linkSync(scratch.path('lower/linked'), scratch.path('lower/linked-too'));
  symlinkSync('plain', scratch.path('lower/symlink'));
  return layers;
}

describeOn(fileSystems, 'what the kernel writes', (scratch) => {
  it('is decoded to what happened, and encoded back to the same bytes', async () => {
    const layers = lowerTree(scratch);
    const options = { index: true, metacopy: true, redirectDir: 'on', uuid: 'on' } as const;
    const origin = handleOf(join(layers.lower, 'plain'));
    await afterUse(layers, options, (merged) => {
      renameSync(join(merged, 'moved'), join(merged, 'dir/here'));
      renameSync(join(merged, 'dir'), join(merged, 'dir-too'));
      chmodSync(join(merged, 'meta'), 0o600);
      renameSync(join(merged, 'meta'), join(merged, 'dir-too/meta-too'));
      writeFileSync(join(merged, 'linked'), 'new');
      writeFileSync(join(merged, 'plain'), 'new');
      rmSync(join(merged, 'gone'), { recursive: true });
      mkdirSync(join(merged, 'gone'));
      chmodSync(join(merged, 'deep/er/z'), 0o600);
      lutimesSync(join(merged, 'symlink'), 1, 1);
    });
    const upper = (name: string) => join(layers.upper, name);

    expect(await one(upper('gone'), 'opaque')).toMatchObject({ mark: 'y' });
    expect(await one(upper('dir-too'), 'redirect')).toMatchObject({
      path: Buffer.from('dir'),
      absolute: false,
    });
    expect(await one(upper('dir-too/here'), 'redirect')).toMatchObject({
      path: Buffer.from('/moved'),
      absolute: true,
    });
    expect(await one(upper('dir-too/meta-too'), 'redirect')).toMatchObject({ path: Buffer.from('/meta') });
    expect(await one(upper('dir-too/meta-too'), 'metacopy')).toEqual({
      kind: 'metacopy',
      name: 'trusted.overlay.metacopy',
      value: NO_BYTES,
    });
    expect(await one(upper('deep/er'), 'impure')).toBeDefined();
    expect(await one(upper('linked'), 'nlink')).toMatchObject({ of: 'upper', difference: 0 });
    const keepsUuid = (await support()).options.uuid?.auto?.ok === true; // since Linux 6.6
    expect((await one(layers.upper, 'uuid'))?.uuid?.length).toBe(keepsUuid ? 16 : undefined);
    const { handle } = (await one(upper('plain'), 'origin')) ?? {};
    expect({ type: handle?.type, bytes: handle?.bytes.toString('hex') }).toEqual(origin);
    expect((await one(upper('symlink'), 'origin'))?.handle?.uuid).toEqual(handle?.uuid);

    for (const root of [layers.upper, layers.work]) {
      for (const { path, found, raw } of await everyAttribute(root, false)) {
        expect([path, found.map(({ kind }) => kind)]).toEqual([
          path,
          expect.not.arrayContaining(['malformed', 'unknown']),
        ]);
        const encoded = found.map((xattr) => encodeOverlayXattr(xattr as OverlayXattrValue));
        expect([
          path,
          Object.fromEntries(encoded.map(({ name, value }) => [name, value.toString('hex')])),
        ]).toEqual([path, Object.fromEntries(raw)]);
      }
    }
    // `#…` is the whiteout that the kernel links again and again.
    const index = readdirSync(join(layers.work, 'index')).filter((name) => !name.startsWith('#'));
    expect(index.length).toBeGreaterThan(0);
    for (const name of index) expect(decodeIndexName(name)).toMatchObject({ uuid: handle?.uuid });
    const indexed = index.map((name) => decodeIndexName(name)?.bytes.toString('hex'));
    expect(indexed).toContain(handleOf(join(layers.lower, 'linked')).bytes);
  });

  it('under userxattr is decoded too', async () => {
    const layers = lowerTree(scratch);
    await afterUse(layers, { userxattr: true }, (merged) => {
      rmSync(join(merged, 'gone'), { recursive: true });
      mkdirSync(join(merged, 'gone'));
      chmodSync(join(merged, 'deep/er/z'), 0o600);
    });
    expect(await readOverlayXattrs(layers.upper, 'gone', { userxattr: true })).toContainEqual(
      expect.objectContaining({ name: 'user.overlay.opaque', mark: 'y' }),
    );
    expect(await readOverlayXattrs(layers.upper, 'gone', { userxattr: false })).toEqual([]);
    for (const { path, found, raw } of await everyAttribute(layers.upper, true)) {
      const encoded = found.map((xattr) =>
        encodeOverlayXattr(xattr as OverlayXattrValue, { userxattr: true }),
      );
      expect([
        path,
        Object.fromEntries(encoded.map(({ name, value }) => [name, value.toString('hex')])),
      ]).toEqual([path, Object.fromEntries(raw)]);
    }
  });

  it('for the flags that the overlay shows is decoded', async () => {
    const layers = lowerTree(scratch);
    await afterUse(layers, {}, (merged) => {
      chattr('+a', join(merged, 'plain'));
      chattr('+ai', join(merged, 'meta'));
      chattr('-ai', join(merged, 'meta'));
      chattr('+i', join(merged, 'linked'));
    });
    expect(await one(join(layers.upper, 'plain'), 'protattr')).toMatchObject({
      append: true,
      immutable: false,
    });
    expect(await one(join(layers.upper, 'linked'), 'protattr')).toMatchObject({
      append: false,
      immutable: true,
    });
    expect(await one(join(layers.upper, 'meta'), 'protattr')).toBeUndefined();
  });

  it('in an overlay on an overlay is escaped, and named as that overlay shows it', async (context) => {
    needsKernel(context, await readsXattrWhiteouts(), 'escaped attributes (6.7)');
    const layers = lowerTree(scratch);
    await afterUse(layers, {}, (merged) => {
      setXattrs([join(merged, 'dir'), 'trusted.overlay.opaque', 'y']);
    });
    expect(await readOverlayXattrs(layers.upper, 'dir')).toContainEqual({
      kind: 'escaped',
      name: escapeOverlayXattr('trusted.overlay.opaque'),
      shownAs: 'trusted.overlay.opaque',
      value: Buffer.from('y'),
    });
  });
});

describeOn(fileSystems, 'what we write', (scratch) => {
  it('means to the kernel what it says', async () => {
    const layers = lowerTree(scratch);
    const text = (path: string) => Buffer.from(path);
    for (const name of ['gone', 'renamed', 'dir/moved-in']) scratch.directory('upper', name);
    writeFileSync(scratch.file('upper/data'), Buffer.alloc('meta of the lower'.length));
    const entries: OverlayXattrEntry[] = [
      { path: 'gone', xattr: { kind: 'opaque', mark: 'y' } },
      { path: 'renamed', xattr: { kind: 'redirect', path: text('deep'), absolute: false } },
      { path: 'dir/moved-in', xattr: { kind: 'redirect', path: text('/moved'), absolute: true } },
      { path: 'data', xattr: { kind: 'metacopy' } },
      { path: 'data', xattr: { kind: 'redirect', path: text('/meta'), absolute: true } },
    ];
    await writeOverlayXattrs(layers.upper, entries);
    await afterUse(layers, { metacopy: true, redirectDir: 'on' }, (merged) => {
      expect(readdirSync(join(merged, 'gone'))).toEqual([]);
      expect(readFileSync(join(merged, 'renamed/er/z'), 'utf8')).toBe('deep/er/z of the lower');
      expect(readdirSync(join(merged, 'dir/moved-in'))).toEqual(['y']);
      expect(readFileSync(join(merged, 'data'), 'utf8')).toBe('meta of the lower');
    });
  });

  it('goes when it is stripped, and what is escaped takes its own name', async () => {
    const { upper } = scratch.layers();
    scratch.directory('upper/dir/inner');
    scratch.file('upper/dir/inner/file');
    symlinkSync('file', scratch.path('upper/dir/inner/link'));
    setXattrs(
      [join(upper, 'dir'), 'trusted.overlay.opaque', 'y'],
      [join(upper, 'dir'), 'trusted.overlay.overlay.opaque', 'x'],
      [join(upper, 'dir'), 'user.note', 'kept'],
      [join(upper, 'dir/inner/file'), 'trusted.overlay.origin', ''],
      [join(upper, 'dir/inner/file'), 'user.overlay.origin', 'of the other namespace'],
      [join(upper, 'dir/inner/link'), 'trusted.overlay.origin', ''],
    );
    expect(await stripOverlayXattrs(upper, 'dir')).toEqual({ removed: 1, unescaped: 0 });
    expect(Object.keys(await xattrs(join(upper, 'dir'))).sort()).toEqual([
      'trusted.overlay.overlay.opaque',
      'user.note',
    ]);
    expect(await stripOverlayXattrs(upper, ['/'], { recursive: true, unescape: true })).toEqual({
      removed: 2,
      unescaped: 1,
    });
    expect(await xattrs(join(upper, 'dir'))).toEqual({
      'trusted.overlay.opaque': Buffer.from('x').toString('hex'),
      'user.note': Buffer.from('kept').toString('hex'),
    });
    expect(Object.keys(await xattrs(join(upper, 'dir/inner/file')))).toEqual(['user.overlay.origin']);
    expect(await xattrs(join(upper, 'dir/inner/link'))).toEqual({});
  });
});

describePrivileged('overlay attributes', () => {
  const scratch = scratchOn();

  it('are read by path or descriptor, of any type of file, which is not followed or waited for', async () => {
    scratch.file('file');
    symlinkSync('file', scratch.path('link'));
    mkfifo(scratch.path('fifo'));
    mknod(scratch.path('device'), 'c', 0, 0);
    const names = ['file', 'link', 'fifo', 'device'];
    setXattrs(...names.map((name) => [scratch.path(name), 'trusted.overlay.origin', ''] as const));
    for (const name of names) {
      const expected = [{ kind: 'origin', name: 'trusted.overlay.origin', value: NO_BYTES }];
      expect(await readOverlayXattrs(scratch.path(name))).toEqual(expected);
      expect(await readOverlayXattrs(scratch.root, name)).toEqual(expected);
    }
    expect(await readOverlayXattrs(scratch.root, names)).toHaveLength(4);
    const fd = openSync(scratch.path('file'), 'r');
    afterThisTest(() => closeSync(fd));
    expect(await readOverlayXattrs({ fd })).toHaveLength(1);
    expect(fstatSync(fd).isFile()).toBe(true);
    expect(await readOverlayXattrs(scratch.root, [])).toEqual([]);
    expect(await readOverlayXattrs(scratch.root)).toEqual([]);
    expect(await readOverlayXattrs('/')).toEqual([]);
  });

  it('may be long, odd, malformed: the bytes are shown', async () => {
    scratch.file('file');
    const long = Buffer.alloc(5000, 'x');
    setXattrs(
      [scratch.path('file'), 'trusted.overlay.redirect', long],
      [scratch.path('file'), 'trusted.overlay.opaque', 'maybe'],
      [scratch.path('file'), 'trusted.overlay.\u00e9', 'v'],
    );
    const found = await readOverlayXattrs(scratch.path('file'));
    expect(found.find(({ kind }) => kind === 'redirect')?.value).toEqual(long);
    expect(found.find(({ kind }) => kind === 'unknown')?.name).toBe('trusted.overlay.\u00e9');
    expect(found.find(({ kind }) => kind === 'malformed')).toMatchObject({
      finding: {
        detail: 'trusted.overlay.opaque is neither `y` nor `x`: the kernel ignores it: 5 bytes, "maybe"',
      },
    });
  });

  it('are those of the layer, where a symbolic link or a mount would lead out', async () => {
    scratch.file('outside/file');
    const layer = scratch.directory('layer');
    symlinkSync('../outside', join(layer, 'link'));
    await expectRefusal(scratch, 'ERR_OVERLAY_PATH_ESCAPES', () => readOverlayXattrs(layer, 'link/file'));
    await expectRefusal(scratch, 'ERR_OVERLAY_PATH_ESCAPES', () =>
      readOverlayXattrs(layer, 'a/../../outside'),
    );
    scratch.directory('layer/point');
    mount('--bind', scratch.path('outside'), scratch.path('layer/point'));
    afterThisTest(() => umount(scratch.path('layer/point')));
    await expectRefusal(scratch, 'ERR_OVERLAY_PATH_ESCAPES', () => readOverlayXattrs(layer, 'point/file'));
    const crossing = await expectRefusal(scratch, 'ERR_OVERLAY_PATH_ESCAPES', () =>
      stripOverlayXattrs(layer, '/', { recursive: true }),
    );
    expect(crossing.path).toBe('point');
  });

  it('are removed from a tree that is far deeper than paths are long', async () => {
    const layer = scratch.directory('layer');
    const levels = 5000;
    digTree(layer, levels, 'd'.repeat(60), 'content');
    const marked = `import os, sys
os.chdir(sys.argv[1])
for i in range(${levels}): os.chdir('d' * 60)
os.mkdir('last'); os.setxattr('last', 'trusted.overlay.origin', b'')`;
    execFileSync('python3', ['-c', marked, layer]);
    const before = process.cpuUsage();
    expect(await stripOverlayXattrs(layer, '/', { recursive: true })).toMatchObject({ removed: 1 });
    const { user, system } = process.cpuUsage(before);
    expect((user + system) / 1e6).toBeLessThan(5);
    execFileSync('rm', ['-rf', layer]);
  });

  it('are not written where one of them could not be read', async () => {
    const layer = scratch.directory('layer');
    scratch.directory('layer/dir');
    const path = 'dir';
    const before = await snapshot(scratch.root);
    const write = (...entries: OverlayXattrEntry[]) => writeOverlayXattrs(layer, entries);
    const good: OverlayXattrEntry = { path, xattr: { kind: 'opaque', mark: 'y' } };
    const slash = Buffer.from('a/b');
    await expect(
      write(good, { path, xattr: { kind: 'redirect', path: slash, absolute: false } }),
    ).rejects.toMatchObject(invalid);
    await expect(write(good, { path, xattr: { kind: 'escaped' } } as never)).rejects.toMatchObject(invalid);
    expect(await snapshot(scratch.root)).toEqual(before);
    await expect(write(good, { path: 'no', xattr: good.xattr })).rejects.toMatchObject({
      code: 'ENOENT',
      path: 'no',
      outcomes: ['done', undefined],
    });
    expect(Object.keys(await xattrs(join(layer, 'dir')))).toEqual(['trusted.overlay.opaque']);
  });

  it('are refused where they would be hidden, and where there are none', async () => {
    const layer = scratch.directory('layer');
    await expectRefusal(scratch, 'ERR_OVERLAY_XATTR_HIDDEN', () => readOverlayXattrs(layer), {
      asNobody: true,
    });
    const box = scratch.directory('box');
    mount('-t', 'ramfs', 'none', box);
    afterThisTest(() => umount(box));
    mkdirSync(join(box, 'dir'));
    expect(await readOverlayXattrs(box, 'dir')).toEqual([]);
    await expect(
      writeOverlayXattrs(box, [{ path: 'dir', xattr: { kind: 'opaque', mark: 'y' } }]),
    ).rejects.toMatchObject({ code: 'ERR_OVERLAY_LAYER_WITHOUT_XATTRS' });
    expect(statSync(box).isDirectory()).toBe(true);
    rmdirSync(join(box, 'dir'));
  });

  it('are asked for with known options and sound arguments', async () => {
    const layer = scratch.directory('layer');
    await expect(readOverlayXattrs(layer, 'a', { user: true } as never)).rejects.toMatchObject(invalid);
    await expect(readOverlayXattrs(layer, ['a\0b'])).rejects.toMatchObject(invalid);
    await expect(readOverlayXattrs(layer, 7 as never)).rejects.toMatchObject(invalid);
    await expect(stripOverlayXattrs(layer, '/', { recursive: 1 } as never)).rejects.toMatchObject(invalid);
    await expect(writeOverlayXattrs(layer, [null] as never)).rejects.toThrow(TypeError);
    await expect(writeOverlayXattrs(layer, 'a' as never)).rejects.toMatchObject(invalid);
    await expect(readOverlayXattrs(layer, '')).rejects.toMatchObject({ code: 'ERR_OVERLAY_EMPTY_PATH' });
    const aborted = AbortSignal.abort(new Error('enough'));
    await expect(readOverlayXattrs(layer, '/', { signal: aborted })).rejects.toThrow('enough');
  });
});
