// @module-tag vm
import {
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  statSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { listOverlays, mountOverlay } from '../../lib/index.ts';
import { kernelFeatures } from '../../lib/inspect/kernel.ts';
import { openDirectories, openings } from '../support/directories.ts';
import { describePrivileged, needsKernel } from '../support/needs.ts';
import { describeOn, fileSystems, scratchOn } from '../support/scratch.ts';
import { xattrs } from '../support/snapshot.ts';

type Triple = [{ fd: number }, { fd: number }, { fd: number }];

describeOn(fileSystems, 'an overlay', (scratch) => {
  it('shows its lower, and leaves the upper empty while it is only read', async () => {
    const { lower, upper, work, target } = scratch.layers();
    await using _ = await mountOverlay({ lower, upper, work, target });
    expect(readFileSync(join(target, 'hello'), 'utf8')).toBe('from the lower');
    expect(readdirSync(upper)).toEqual([]);
  });

  it('copies a file up when it is written, and leaves the lower as it was', async () => {
    const { lower, upper, work, target } = scratch.layers();
    await using _ = await mountOverlay({ lower, upper, work, target });
    writeFileSync(join(target, 'hello'), 'changed');
    expect(readFileSync(join(upper, 'hello'), 'utf8')).toBe('changed');
    expect(readFileSync(join(lower, 'hello'), 'utf8')).toBe('from the lower');
  });

  it('leaves a whiteout in the upper for a file that is deleted', async () => {
    const { lower, upper, work, target } = scratch.layers();
    await using _ = await mountOverlay({ lower, upper, work, target });
    unlinkSync(join(target, 'hello'));
    const whiteout = lstatSync(join(upper, 'hello'));
    expect([whiteout.isCharacterDevice(), whiteout.rdev]).toEqual([true, 0]);
    expect(readdirSync(target)).toEqual([]);
  });

  it('makes a directory opaque that is deleted and made again', async () => {
    const { lower, upper, work, target } = scratch.layers();
    scratch.file('lower/folder/old');
    await using _ = await mountOverlay({ lower, upper, work, target });
    unlinkSync(join(target, 'folder/old'));
    rmdirSync(join(target, 'folder'));
    mkdirSync(join(target, 'folder'));
    expect(readdirSync(join(target, 'folder'))).toEqual([]);
    expect(await xattrs(join(upper, 'folder'))).toMatchObject({
      'trusted.overlay.opaque': Buffer.from('y').toString('hex'),
    });
  });

  it('keeps its changes when it is mounted again', async () => {
    const { lower, upper, work, target } = scratch.layers();
    const options = { lower, upper, work, target };
    await (await mountOverlay(options)).unmount();
    const first = await mountOverlay(options);
    writeFileSync(join(target, 'new'), 'kept');
    await first.unmount();
    expect(readdirSync(target)).toEqual([]);
    await using _ = await mountOverlay(options);
    expect(readFileSync(join(target, 'new'), 'utf8')).toBe('kept');
  });

  it('is taken from descriptors in place of names', async () => {
    const { lower, upper, work, target } = scratch.layers();
    using open = openDirectories(openings.O_PATH, lower, upper, work);
    const [fdOfLower, fdOfUpper, fdOfWork] = open.refs as Triple;
    await using _ = await mountOverlay({ lower: fdOfLower, upper: fdOfUpper, work: fdOfWork, target });
    writeFileSync(join(target, 'new'), '');
    expect(readdirSync(upper)).toEqual(['new']);
  });

  it('may be written to a scratch tmpfs that no path leads to and that goes with it', async () => {
    const { lower, target } = scratch.layers();
    const overlay = await mountOverlay({ lower, scratch: true, target });
    writeFileSync(join(target, 'hello'), 'only here');
    expect(scratch.mounts()).toEqual([target]);
    await overlay.unmount();
    expect(readFileSync(join(lower, 'hello'), 'utf8')).toBe('from the lower');
    expect(scratch.mounts()).toEqual([]);
  });
});

describePrivileged('the layers of an overlay', () => {
  const scratch = scratchOn();

  it('are searched topmost first', async () => {
    const lower = ['a', 'b', 'c'].map((name) => {
      scratch.file(`${name}/who`, name);
      scratch.file(`${name}/only-${name}`);
      return scratch.path(name);
    });
    const target = scratch.directory('merged');
    await using _ = await mountOverlay({ lower, target });
    expect(readFileSync(join(target, 'who'), 'utf8')).toBe('a');
    expect(readdirSync(target)).toEqual(['only-a', 'only-b', 'only-c', 'who']);
  });

  it('make a read-only overlay without an upper', async () => {
    const lower = [scratch.directory('a'), scratch.directory('b')];
    const target = scratch.directory('merged');
    await using _ = await mountOverlay({ lower, target });
    expect(() => writeFileSync(join(target, 'new'), '')).toThrow(/EROFS/);
    expect(await listOverlays()).toContainEqual(expect.objectContaining({ target, readonly: true }));
  });

  it('may be a single lower with an empty one below it', async () => {
    const { lower, target } = scratch.layers();
    await using overlay = await mountOverlay({ lower, target, allowSingleLower: true });
    expect(readFileSync(join(target, 'hello'), 'utf8')).toBe('from the lower');
    expect(overlay.plan.lower).toEqual([lower]);
    expect(overlay.layers().lower).toHaveLength(1);
    expect(scratch.mounts()).toEqual([target]);
  });

  it('may hold data alone, for files whose metadata points there', async (context) => {
    needsKernel(context, (await kernelFeatures()).nativeParser, 'data-only layers (6.5)');
    const { lower, target } = scratch.layers();
    scratch.file('data/content', 'data');
    await using _ = await mountOverlay({ lower, dataOnlyLower: [scratch.path('data')], target });
    expect(readdirSync(target)).toEqual(['hello']);
    expect((await listOverlays()).find((one) => one.target === target)).toMatchObject({
      lower: [{ path: lower }],
      dataOnlyLower: [{ path: scratch.path('data') }],
    });
  });

  it('are handed back as open descriptors of the very directories', async () => {
    const { lower, upper, work, target } = scratch.layers();
    await using overlay = await mountOverlay({
      lower: [lower, scratch.directory('second')],
      upper,
      work,
      target,
    });
    const layers = overlay.layers();
    const inode = (ref: unknown) => statSync(`/proc/self/fd/${(ref as { fd: number }).fd}/.`).ino;
    expect([...(layers.lower as unknown[]), layers.upper, layers.work].map(inode)).toEqual(
      [lower, scratch.path('second'), upper, work].map((path) => statSync(path).ino),
    );
    expect(layers).toMatchObject({ index: false, metacopy: false, userxattr: false, redirectDir: 'follow' });
  });

  it('may themselves be another overlay, two deep', async () => {
    const { lower, target } = scratch.layers();
    await using _ = await mountOverlay({ lower, scratch: true, target });
    await using upon = await mountOverlay({
      lower: target,
      scratch: true,
      target: scratch.directory('second'),
    });
    expect(readFileSync(upon.path('hello'), 'utf8')).toBe('from the lower');
  });

  it('are found by relative names as they were when the call was made', async () => {
    const { target, upper, work } = scratch.layers();
    const cwd = process.cwd();
    process.chdir(scratch.root);
    try {
      const mounting = mountOverlay({
        lower: 'lower',
        upper: './upper',
        work: 'upper/../work',
        target: 'merged',
      });
      process.chdir('/');
      await using overlay = await mounting;
      expect(overlay.target).toBe(target);
      writeFileSync(join(target, 'new'), '');
      expect(readdirSync(upper)).toEqual(['new']);
      expect(readdirSync(work)).toEqual(['work']);
    } finally {
      process.chdir(cwd);
    }
  });

  it('may be reached by symbolic links', async () => {
    const { lower, upper, work, target } = scratch.layers();
    for (const [name, path] of Object.entries({ lower, upper, work, target }))
      symlinkSync(path, scratch.path(`to-${name}`));
    await using overlay = await mountOverlay({
      lower: scratch.path('to-lower'),
      upper: scratch.path('to-upper'),
      work: scratch.path('to-work'),
      target: scratch.path('to-target'),
    });
    expect(readdirSync(target)).toEqual(['hello']);
    await overlay.unmount();
    expect(readdirSync(target)).toEqual([]);
  });
});
