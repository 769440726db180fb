// @module-tag vm
import { closeSync, fstatSync, openSync, renameSync, statSync } from 'node:fs';
import { expect, it } from 'vitest';
import { type DirRef, mountOverlay, openLayers } from '../../lib/index.ts';
import { describePrivileged } from '../support/needs.ts';
import { expectRefusal } from '../support/refusal.ts';
import { scratchOn } from '../support/scratch.ts';

const inode = (ref: DirRef | undefined) => fstatSync((ref as { fd: number }).fd).ino;

describePrivileged('openLayers', () => {
  const scratch = scratchOn();

  it('holds the directories, whatever becomes of their names', async () => {
    const { lower, upper, work } = scratch.layers();
    const before = [lower, upper, work].map((path) => statSync(path).ino);
    await using layers = await openLayers({ lower, upper, work });
    renameSync(lower, scratch.path('elsewhere'));
    const stack = layers.layers();
    expect([(stack.lower as DirRef[])[0], stack.upper, stack.work].map(inode)).toEqual(before);
  });

  it('makes every option explicit, as a mount would', async () => {
    const { lower } = scratch.layers();
    const options = async (asked: object) => {
      await using layers = await openLayers({ lower, ...asked });
      const { index, metacopy, userxattr, redirectDir } = layers.layers();
      return { index, metacopy, userxattr, redirectDir };
    };
    const plain = { index: false, metacopy: false, userxattr: false, redirectDir: 'follow' };
    expect(await options({})).toEqual(plain);
    expect(await options({ metacopy: true })).toEqual({ ...plain, metacopy: true, redirectDir: 'on' });
    expect(await options({ userxattr: true })).toEqual({
      ...plain,
      userxattr: true,
      redirectDir: 'nofollow',
    });
  });

  it('takes an overlay for its layers, and a stack of descriptors', async () => {
    const { target, ...paths } = scratch.layers();
    await using overlay = await mountOverlay({ ...paths, target, index: true });
    await using layers = await openLayers(overlay.layers());
    expect(layers.layers().index).toBe(true);
    expect(inode(layers.layers().upper)).toBe(statSync(paths.upper).ino);
  });

  it('refuses what is no stack, and layers that are not there, or not for this user', async () => {
    const { lower } = scratch.layers();
    await expectRefusal(scratch, 'ERR_OVERLAY_LAYER_NOT_FOUND', () =>
      openLayers({ lower: scratch.path('no') }),
    );
    const wrong = { code: 'ERR_INVALID_ARG_VALUE' };
    await expect(openLayers({} as never)).rejects.toMatchObject(wrong);
    await expect(openLayers({ lower, index: 'on' } as never)).rejects.toMatchObject(wrong);
    await expect(openLayers({ lower, uper: lower } as never)).rejects.toMatchObject(wrong);
    await expectRefusal(scratch, 'ERR_OVERLAY_XATTR_HIDDEN', () => openLayers({ lower }), { asNobody: true });
    const fd = openSync(scratch.file('file'), 'r');
    await expectRefusal(scratch, 'ERR_OVERLAY_LAYER_NOT_DIRECTORY', () => openLayers({ lower: { fd } }));
    closeSync(fd);
  });

  it('says so when it has been closed, and closes twice', async () => {
    const layers = await openLayers({ lower: scratch.layers().lower });
    await layers.close();
    await layers.close();
    expect(() => layers.layers()).toThrow('have been closed');
  });
});
