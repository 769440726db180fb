// @module-tag vm
import { mkdirSync, readdirSync, rmSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import {
  clearOpaque,
  createWhiteout,
  isOpaque,
  mountOverlay,
  readOverlayXattrs,
  setOpaque,
} from '../../lib/index.ts';
import { mkfifo, mount, umount } from '../support/commands.ts';
import { describePrivileged } from '../support/needs.ts';
import { expectRefusal } from '../support/refusal.ts';
import { afterThisTest, describeOn, fileSystems, scratchOn } from '../support/scratch.ts';
import { snapshot } from '../support/snapshot.ts';
import { setXattrs } from '../support/xattr.ts';

describeOn(fileSystems, 'an opaque directory', (scratch) => {
  it.each([false, true])(
    'hides what is below it, and shows it again when cleared (userxattr: %s)',
    async (userxattr) => {
      const { lower, ...layers } = scratch.layers();
      const options = { userxattr };
      for (const name of ['dir/a', 'dir/sub/b']) scratch.file(`lower/${name}`);
      scratch.directory('upper/dir/sub');
      const show = async () => {
        await using _ = await mountOverlay({ lower, ...layers, userxattr });
        return [readdirSync(join(layers.target, 'dir')), readdirSync(join(layers.target, 'dir/sub'))];
      };
      expect(await setOpaque(layers.upper, 'dir/sub', options)).toBe(true);
      expect(await show()).toEqual([['a', 'sub'], []]);
      expect(await setOpaque(layers.upper, ['dir', 'dir/sub'], options)).toEqual([true, false]);
      expect(await isOpaque(layers.upper, ['dir', 'dir/sub'], options)).toEqual(['xattr', 'xattr']);
      expect(await isOpaque(layers.upper, 'dir', { userxattr: !userxattr })).toBe(false);
      expect(await show()).toEqual([['sub'], []]);
      expect(await clearOpaque(layers.upper, ['dir', 'dir/sub'], options)).toEqual(['xattr', 'xattr']);
      expect(await clearOpaque(layers.upper, 'dir', options)).toBe(false);
      expect(await show()).toEqual([['a', 'sub'], ['b']]);
    },
  );

  it('of the kernel is recognised, and ours is marked as it is', async () => {
    const { ...layers } = scratch.layers();
    scratch.file('lower/dir/a');
    const overlay = await mountOverlay(layers);
    rmSync(join(layers.target, 'dir'), { recursive: true });
    mkdirSync(join(layers.target, 'dir'));
    await overlay.unmount();
    expect(await isOpaque(layers.upper, 'dir')).toBe('xattr');
    scratch.directory('upper/ours');
    await setOpaque(layers.upper, 'ours');
    const raw = await snapshot(layers.upper);
    const name = 'trusted.overlay.opaque';
    expect(raw[join(layers.upper, 'ours')]?.xattrs[name]).toBe(raw[join(layers.upper, 'dir')]?.xattrs[name]);
  });
});

describePrivileged('an opaque directory', () => {
  const scratch = scratchOn('ext4'); // a tmpfs has no user attributes before Linux 6.6

  it('of fuse-overlayfs or of an image layer is recognised, and cleared', async () => {
    const layer = scratch.directory('layer');
    for (const name of ['fuse', 'image', 'all']) scratch.directory('layer', name);
    scratch.file('layer/image/.wh..wh..opq');
    scratch.file('layer/all/.wh..wh..opq');
    setXattrs(
      [join(layer, 'fuse'), 'user.fuseoverlayfs.opaque', 'y'],
      [join(layer, 'all'), 'user.fuseoverlayfs.opaque', 'y'],
      [join(layer, 'all'), 'trusted.overlay.opaque', 'y'],
    );
    const forms = ['fuse-overlayfs', 'aufs', 'xattr'];
    expect(await isOpaque(layer, ['fuse', 'image', 'all'])).toEqual(forms);
    expect(await clearOpaque(layer, ['fuse', 'image', 'all'])).toEqual(forms);
    expect(await isOpaque(layer, ['fuse', 'image', 'all'])).toEqual([false, false, false]);
    expect(readdirSync(join(layer, 'all'))).toEqual([]);
  });

  it('is not one whose mark the kernel does not take: another value, `x`, or that of a root', async () => {
    const layer = scratch.directory('layer');
    const marks = { empty: '', long: 'yy', no: 'n', x: 'x' };
    for (const name of Object.keys(marks)) scratch.directory('layer', name);
    setXattrs(
      ...Object.entries(marks).map(
        ([name, value]) => [join(layer, name), 'trusted.overlay.opaque', value] as const,
      ),
      [layer, 'trusted.overlay.opaque', 'y'],
    );
    expect(await isOpaque(layer, [...Object.keys(marks), '/'])).toEqual(Array(5).fill(false));
    expect(await setOpaque(layer, 'no')).toBe(true);
    expect(await clearOpaque(layer, 'x')).toBe(false);
    expect(await readOverlayXattrs(layer, 'x')).toMatchObject([{ kind: 'opaque', mark: 'x' }]);
    scratch.file('layer/.wh..wh..opq');
    expect(await isOpaque(layer, '/')).toBe('aufs');
  });

  it('is neither a file, nor the root, nor one that holds whiteouts that are files', async () => {
    const layer = scratch.directory('layer');
    scratch.file('layer/file');
    scratch.directory('layer/dir');
    symlinkSync('dir', join(layer, 'link'));
    mkfifo(join(layer, 'fifo'));
    await createWhiteout(layer, 'dir/a', { form: 'xattr' });
    await createWhiteout(layer, 'device');
    await expectRefusal(scratch, 'ERR_OVERLAY_WHITEOUT_IN_OPAQUE', () => setOpaque(layer, 'dir'));
    await expectRefusal(scratch, 'ERR_OVERLAY_LAYER_ROOT', () => setOpaque(layer, '/'));
    await expectRefusal(scratch, 'ERR_OVERLAY_PATH_ESCAPES', () => setOpaque(layer, 'link/..'));
    for (const verb of [setOpaque, isOpaque, clearOpaque]) {
      for (const name of ['file', 'fifo', 'device'])
        await expect(verb(layer, name)).rejects.toMatchObject({ code: 'ENOTDIR', path: name });
      await expect(verb(layer, 'no')).rejects.toMatchObject({ code: 'ENOENT', path: 'no' });
      await expect(verb(layer, '')).rejects.toMatchObject({ code: 'ERR_OVERLAY_EMPTY_PATH' });
      await expect(verb(layer, 'a\0b')).rejects.toMatchObject({ code: 'ERR_INVALID_ARG_VALUE' });
      await expect(verb(layer, 'dir', { form: 'x' } as never)).rejects.toMatchObject({
        code: 'ERR_INVALID_ARG_VALUE',
      });
      await expectRefusal(scratch, 'ERR_OVERLAY_XATTR_HIDDEN', async () => verb(layer, 'dir'), {
        asNobody: true,
      });
      await expectRefusal(scratch, 'ERR_OVERLAY_PATH_ESCAPES', async () => verb(layer, 'link'));
    }
  });

  it('needs extended attributes, and a file system that can be written', async () => {
    const box = scratch.directory('box');
    mount('-t', 'ramfs', 'none', box);
    afterThisTest(() => umount(box));
    mkdirSync(join(box, 'dir'));
    await expectRefusal(scratch, 'ERR_OVERLAY_LAYER_WITHOUT_XATTRS', () => setOpaque(box, 'dir'));
    expect(await isOpaque(box, 'dir')).toBe(false);
    const readonly = scratch.directory('readonly');
    scratch.directory('layer/dir');
    mount('--bind', '-o', 'ro', scratch.path('layer'), readonly);
    afterThisTest(() => umount(readonly));
    await expect(setOpaque(readonly, 'dir')).rejects.toMatchObject({ code: 'EROFS' });
  });
});
