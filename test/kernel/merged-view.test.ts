// @module-tag vm
// mergedView() beside what a mount shows: ghosts, refusals, privilege, and what must not hang or leak.
import {
  chmodSync,
  lstatSync,
  readdirSync,
  renameSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { text } from 'node:stream/consumers';
import { expect, it } from 'vitest';
import { type MergedView, mergedView, mountOverlay, OverlayError } from '../../lib/index.ts';
import { mkfifo, mknod } from '../support/commands.ts';
import { describePrivileged } from '../support/needs.ts';
import { expectRefusal } from '../support/refusal.ts';
import { scratchOn } from '../support/scratch.ts';
import { setXattr } from '../support/xattr.ts';

const names = async (view: MergedView, path = '.') => (await view.readdir(path)).map(({ name }) => name);

describePrivileged('mergedView', () => {
  const scratch = scratchOn('ext4'); // a tmpfs has no user attributes before Linux 6.6
  const stack = (...lowers: string[]) => ({
    lower: lowers.map((name) => scratch.directory(name)),
    upper: scratch.directory('upper'),
    work: scratch.directory('work'),
  });

  it('leaves out whiteouts that readdir lists and lstat does not find', async () => {
    const layers = stack('one', 'two');
    mknod(`${scratch.directory('one/d')}/device`, 'c', 0, 0);
    await setXattr(scratch.file('one/d/empty'), 'trusted.overlay.whiteout');
    scratch.file('one/d/shown');
    await using overlay = await mountOverlay({ ...layers, target: scratch.directory('m') });
    await using view = await mergedView(overlay);
    expect(readdirSync(overlay.path('d')).sort()).toEqual(['device', 'empty', 'shown']);
    expect(await names(view, 'd')).toEqual(['shown']);
    const walked: string[] = [];
    for await (const { path } of view.walk()) walked.push(path);
    expect(walked).toEqual(['d', 'd/shown']);
  });

  it('lists in byte order, walks what lies below a directory, and reads files whole and in part', async () => {
    const layers = stack('one', 'two');
    for (const name of ['two/b', 'one/a-b', 'two/a/deep/leaf', 'one/a/x', 'upper/B'])
      scratch.file(name, name);
    await using view = await mergedView(layers);
    expect(await names(view)).toEqual(['B', 'a', 'a-b', 'b']);
    const walked: unknown[] = [];
    for await (const { path, type } of view.walk('a')) walked.push([path, type]);
    expect(walked).toEqual([
      ['a/deep', 'directory'],
      ['a/deep/leaf', 'file'],
      ['a/x', 'file'],
    ]);
    expect((await view.readFile('a/deep/leaf')).toString()).toBe('two/a/deep/leaf');
    expect(await text(await view.createReadStream('a/deep/leaf', { start: 4, end: 5 }))).toBe('a/');
    for (const options of [{ start: 5, end: 4 }, { start: -1 }, { end: '4' }, { encoding: 'utf8' }])
      await expect(view.createReadStream('a/deep/leaf', options as never)).rejects.toMatchObject({
        code: 'ERR_INVALID_ARG_VALUE',
      });
    expect(await view.stat('a/x')).toMatchObject({ type: 'file', mode: 0o644, size: 7n, nlink: 1 });
    const [first] = await view.readdir('.', { stats: true });
    expect(first).toMatchObject({ name: 'B', stats: { size: 7n } });
  });

  it('leaves access times as they are', async () => {
    const layers = stack('one', 'two');
    const paths = [scratch.file('one/f', 'content'), scratch.path('one')];
    // Under relatime what is older than the last change would be set anew.
    for (const path of paths) utimesSync(path, 1, 2);
    await using view = await mergedView(layers);
    await names(view);
    await view.readFile('f');
    expect(paths.map((path) => lstatSync(path).atimeMs)).toEqual([1000, 1000]);
  });

  it('shows attributes as the overlay does: its own hidden, escaped ones under their names', async () => {
    const layers = stack('one', 'two');
    const path = scratch.directory('one/d');
    await setXattr(path, 'trusted.overlay.opaque', 'y');
    await setXattr(path, 'trusted.overlay.overlay.opaque', 'x');
    await setXattr(path, 'user.own', '1');
    await using view = await mergedView(layers);
    const shown = [...(await view.xattrs('d'))].map(([name, value]) => [name, value.toString()]);
    expect(shown.sort()).toEqual([
      ['trusted.overlay.opaque', 'x'],
      ['user.own', '1'],
    ]);
  });

  it('fails as node:fs does for what is not there, or is no file', async () => {
    const layers = stack('one', 'two');
    scratch.file('one/f');
    mkfifo(scratch.path('one/fifo'));
    symlinkSync('f', scratch.path('one/link'));
    await using view = await mergedView(layers);
    await expect(view.stat('nothing')).rejects.toMatchObject({ code: 'ENOENT', path: 'nothing' });
    await expect(view.stat('f/x')).rejects.toMatchObject({ code: 'ENOTDIR' });
    await expect(view.readdir('f')).rejects.toMatchObject({ code: 'ENOTDIR' });
    await expect(view.readFile('.')).rejects.toMatchObject({ code: 'EISDIR' });
    await expect(view.readFile('link')).rejects.toMatchObject({ code: 'ELOOP' });
    await expect(view.readFile('fifo')).rejects.toMatchObject({ code: 'EINVAL' });
    await expect(view.readlink('f')).rejects.toMatchObject({ code: 'EINVAL' });
    expect((await view.readlink('link')).toString()).toBe('f');
    for (const path of ['..', 'a/../b']) {
      await expect(view.stat(path)).rejects.toMatchObject({ code: 'ERR_OVERLAY_PATH_ESCAPES' });
    }
    await expect(view.readdir('.', { stat: true } as never)).rejects.toMatchObject({
      code: 'ERR_INVALID_ARG_VALUE',
    });
  });

  it('says why the kernel would refuse a path, and lists it all the same', async () => {
    const layers = stack('one', 'two');
    await setXattr(scratch.directory('one/d'), 'trusted.overlay.redirect', 'a/b');
    scratch.file('one/f');
    await using view = await mergedView(layers);
    const error = await view.stat('d/x').catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(OverlayError);
    expect(error).toMatchObject({
      code: 'ERR_OVERLAY_REDIRECT_REFUSED',
      errno: -22,
      path: 'd/x',
      findings: [{ path: scratch.path('one/d') }],
    });
    expect(await view.readdir('.', { stats: true })).toMatchObject([
      { name: 'd', errno: -22 },
      { name: 'f' },
    ]);
    const walked: string[] = [];
    for await (const { path } of view.walk('.', { stats: true })) walked.push(path);
    expect(walked).toEqual(['d', 'f']);
  });

  it('reads userxattr layers without privilege, others only where it may take them to have no attributes', async () => {
    const layers = stack('one', 'two');
    scratch.file('one/f', 'content');
    await setXattr(scratch.directory('two/hidden'), 'trusted.overlay.opaque', 'y');
    await setXattr(scratch.file('one/user'), 'user.overlay.whiteout');
    for (const path of [scratch.root, ...layers.lower, layers.upper, layers.work]) chmodSync(path, 0o755);
    const asNobody = async <T>(attempt: () => Promise<T>): Promise<T> => {
      process.seteuid?.(65534);
      return attempt().finally(() => process.seteuid?.(0));
    };
    await expectRefusal(scratch, 'ERR_OVERLAY_XATTR_HIDDEN', () => mergedView(layers), { asNobody: true });
    await using assumed = await asNobody(() => mergedView(layers, { assumeNoXattrs: true }));
    expect(assumed.assumesNoXattrs).toBe(true);
    expect(await names(assumed)).toEqual(['f', 'hidden', 'user']);
    await using user = await asNobody(() => mergedView({ ...layers, userxattr: true }));
    expect(user.assumesNoXattrs).toBe(false);
    expect(await asNobody(() => names(user))).toEqual(['f', 'hidden']);
    await using root = await mergedView(layers, { assumeNoXattrs: true });
    expect(root.assumesNoXattrs).toBe(false);
  });

  it('keeps its layers when they are renamed, and lets go of them when it is closed', async () => {
    const layers = stack('one', 'two');
    scratch.file('one/f', 'content');
    const view = await mergedView(layers);
    renameSync(scratch.path('one'), scratch.path('elsewhere'));
    expect(await names(view)).toEqual(['f']);
    const reading = view.readFile('f');
    await view.close();
    await view.close();
    expect((await reading).toString()).toBe('content');
    await expect(view.stat('f')).rejects.toMatchObject({ code: 'ERR_OVERLAY_VIEW_CLOSED' });
    await expectRefusal(scratch, 'ERR_OVERLAY_LAYER_NOT_FOUND', () => mergedView(layers));
    const { work: _, ...withoutWork } = { ...layers, lower: scratch.path('elsewhere'), index: true };
    await expectRefusal(scratch, 'ERR_OVERLAY_WORK_NEEDED', () => mergedView(withoutWork));
    // Nobody says that there is an index, but the upper shows that there was one.
    const indexed = {
      lower: scratch.directory('linked'),
      upper: scratch.directory('u2'),
      work: scratch.directory('w2'),
    };
    await (await mountOverlay({ ...indexed, index: true })).unmount();
    const { work: _work, ...unsaid } = indexed;
    await expectRefusal(scratch, 'ERR_OVERLAY_WORK_NEEDED', () => mergedView(unsaid));
    await (await mergedView(indexed)).close();
  });

  it('lists a directory of 12,000 names in one call', { tags: ['slow'] }, async () => {
    const layers = stack('one', 'two');
    for (let i = 0; i < 12_000; i++) writeFileSync(scratch.path(`${i % 2 ? 'one' : 'two'}/${i}`), '');
    await using view = await mergedView(layers);
    expect((await view.readdir('.', { stats: true })).every(({ stats }) => stats?.size === 0n)).toBe(true);
    expect(await names(view)).toHaveLength(12_000);
  });
});
