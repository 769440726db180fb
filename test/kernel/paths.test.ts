import { constants, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { expect, it } from 'vitest';
import * as library from '../../lib/index.ts';
import { itTakesEveryName } from '../support/names.ts';
import { describePrivileged } from '../support/needs.ts';
import { scratchOn } from '../support/scratch.ts';

const { mountOverlay } = library;

describePrivileged('an overlay by the best way that the kernel has', () => {
  itTakesEveryName(scratchOn(), () => library);
});

describePrivileged('an overlay by mount(2)', () => {
  itTakesEveryName(scratchOn(), () => library, { mountApi: 'mount' });
});

describePrivileged('a path inside an overlay', () => {
  const scratch = scratchOn();

  it('is joined to the target, and `..` cannot leave the root', async () => {
    const { lower, target } = scratch.layers();
    await using overlay = await mountOverlay({ lower, scratch: true, target });
    expect(overlay.path()).toBe(target);
    expect(overlay.path('a', './b//c', '../d')).toBe(`${target}/a/b/d`);
    expect(overlay.path('/etc/passwd')).toBe(`${target}/etc/passwd`);
    expect(overlay.path(new URL('file:///a%20b'))).toBe(`${target}/a b`);
    for (const segments of [['..'], ['a/../..'], ['a', '..', '..', 'b']]) {
      expect(() => overlay.path(...segments)).toThrow(
        expect.objectContaining({ code: 'ERR_OVERLAY_PATH_ESCAPES' }),
      );
    }
    expect(() => overlay.path('a\0b')).toThrow(expect.objectContaining({ code: 'ERR_INVALID_ARG_VALUE' }));
    expect(() => overlay.path('')).toThrow(expect.objectContaining({ code: 'ERR_OVERLAY_EMPTY_PATH' }));
  });

  it('is bytes where no string stands for it', async () => {
    const { lower } = scratch.layers();
    const target = Buffer.from(`${scratch.root}/\xff`, 'latin1');
    mkdirSync(target);
    await using overlay = await mountOverlay({ lower, scratch: true, target });
    expect(overlay.target).toBe(`${scratch.root}/\\xff`);
    expect(overlay.targetBytes).toEqual(target);
    expect(() => overlay.path('a')).toThrow(expect.objectContaining({ code: 'ERR_OVERLAY_PATH_NOT_UTF8' }));
    expect(readFileSync(overlay.pathBytes('hello'), 'utf8')).toBe('from the lower');
  });

  it('follows symbolic links like any path, which open() does not let out', async () => {
    const { lower, target } = scratch.layers();
    const outside = scratch.file('outside', 'not yours');
    symlinkSync(outside, `${lower}/absolute`);
    symlinkSync('../outside', `${lower}/relative`);
    symlinkSync('/hello', `${lower}/inside`);
    await using overlay = await mountOverlay({ lower, scratch: true, target });

    expect(readFileSync(overlay.path('absolute'), 'utf8')).toBe('not yours');
    for (const name of ['absolute', 'relative', '../outside', '/../../outside']) {
      await expect(overlay.open(name)).rejects.toThrow(
        expect.objectContaining({ code: 'ENOENT', path: name }),
      );
    }
    await using file = await overlay.open('inside');
    expect(await file.readFile('utf8')).toBe('from the lower');
  });

  it.each([
    ['O_NOFOLLOW', 'ELOOP', constants.O_NOFOLLOW],
    ['O_NOFOLLOW | O_DIRECTORY', 'ENOTDIR', constants.O_NOFOLLOW | constants.O_DIRECTORY],
  ])('is not opened through a symbolic link with %s: %s, as open(2) has it', async (_, code, flags) => {
    const { lower, target } = scratch.layers();
    mkdirSync(`${lower}/d`);
    symlinkSync('d', `${lower}/link`);
    await using overlay = await mountOverlay({ lower, scratch: true, target });
    const refused = { code, syscall: 'open' };
    await expect(open(overlay.path('link'), flags)).rejects.toMatchObject(refused);
    await expect(overlay.open('link', flags)).rejects.toMatchObject({ ...refused, path: 'link' });
    await using _directory = await overlay.open('d', flags);
  });

  it('is made by open() inside the overlay alone, even through a hostile link', async () => {
    const { lower, target } = scratch.layers();
    symlinkSync(scratch.path('victim'), `${lower}/link`);
    await using overlay = await mountOverlay({ lower, scratch: true, target });
    await expect(overlay.open('link', 'w')).rejects.toThrow(expect.objectContaining({ code: 'ENOENT' }));
    expect(readdirSync(scratch.root).sort()).toEqual(['lower', 'merged', 'upper', 'work']);
  });

  it.each<[string, string | number]>([
    ['w', 'w'],
    ['wx', 'wx'],
    ['a', 'a'],
    ['r+', 'r+'],
    ['a number', 2 | 0o100],
  ])('is written by open() with %s', async (_, flags) => {
    const { lower, upper, work, target } = scratch.layers();
    const name = flags === 'r+' ? 'hello' : 'new';
    await using overlay = await mountOverlay({ lower, upper, work, target });
    {
      await using file = await overlay.open(name, flags, 0o640);
      await file.write('written');
    }
    expect(readFileSync(`${upper}/${name}`, 'utf8')).toMatch(/^written/);
  });

  it('is refused by open() with errors of node:fs', async () => {
    const { lower, target } = scratch.layers();
    await using overlay = await mountOverlay({ lower, scratch: true, target });
    const fails = (code: string) =>
      expect.objectContaining({ code, errno: expect.any(Number), syscall: expect.any(String) });
    await expect(overlay.open('missing')).rejects.toThrow(fails('ENOENT'));
    await expect(overlay.open('hello/below')).rejects.toThrow(fails('ENOTDIR'));
    await expect(overlay.open('hello', 'wx')).rejects.toThrow(fails('EEXIST'));
    await expect(overlay.open('.', 'w')).rejects.toThrow(fails('EISDIR'));
    await expect(overlay.open('hello', 'rw')).rejects.toThrow(
      expect.objectContaining({ code: 'ERR_INVALID_ARG_VALUE' }),
    );
    await expect(overlay.open('hello', 'r', -1)).rejects.toThrow(
      expect.objectContaining({ code: 'ERR_INVALID_ARG_VALUE' }),
    );
  });

  it('is truncated, appended to and kept by open() as its flags say', async () => {
    const { lower, target } = scratch.layers();
    await using overlay = await mountOverlay({ lower, scratch: true, target });
    const write = async (flags: string, text: string) => {
      await using file = await overlay.open('note', flags);
      await file.writeFile(text);
      return readFileSync(overlay.path('note'), 'utf8');
    };
    expect(await write('w', 'first')).toBe('first');
    expect(await write('a', '+more')).toBe('first+more');
    expect(await write('w', 'new')).toBe('new');
  });

  it('below openRoot() is reached without the target', async () => {
    const { lower, target } = scratch.layers();
    const { closeSync } = await import('node:fs');
    await using overlay = await mountOverlay({ lower, scratch: true, target });
    const root = await overlay.openRoot();
    writeFileSync(`/proc/self/fd/${root}/new`, 'text');
    closeSync(root);
    expect(readFileSync(`${target}/new`, 'utf8')).toBe('text');
  });
});
