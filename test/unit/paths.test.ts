import { mkdtempSync, rmdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, describe, expect, it } from 'vitest';
import { absolutePath, directoryRef, exactString, pathBytes, showPath, showRef } from '../../lib/paths.ts';
import type { DirRef, PathLike } from '../../lib/types.ts';

const notUtf8 = Buffer.from([0x2f, 0x61, 0xff, 0xfe]);
const invalid = expect.objectContaining({ name: 'TypeError', code: 'ERR_INVALID_ARG_VALUE' });

describe('a path', () => {
  it.each<[string, PathLike, Buffer]>([
    ['a string is taken as UTF-8', '/é', Buffer.from([0x2f, 0xc3, 0xa9])],
    ['bytes are taken as they are', notUtf8, notUtf8],
    ['a Uint8Array is as good as a Buffer', new Uint8Array(notUtf8), notUtf8],
    ['a file: URL is decoded', new URL('file:///a%20b%3Ac'), Buffer.from('/a b:c')],
    ['what is special to mount options stays', '/a,b:c\\d"e\nf', Buffer.from('/a,b:c\\d"e\nf')],
  ])('%s', (_, path, bytes) => {
    expect(pathBytes(path, 'lower')).toEqual(bytes);
  });

  it('is copied, so that changing the caller’s bytes later changes nothing', () => {
    const given = Buffer.from('/lower');
    const taken = pathBytes(given, 'lower');
    given.fill(0x78);
    expect(taken).toEqual(Buffer.from('/lower'));
  });

  it.each<[string, unknown]>([
    ['a NUL byte in a string', '/a\0b'],
    ['a NUL byte in bytes', Buffer.from([0x2f, 0])],
    ['a URL that is no file:', new URL('https://example.org/a')],
    ['a number', 3],
    ['null', null],
    ['undefined', undefined],
    ['an array', ['/a']],
    ['an object that is no directory', { path: '/a' }],
  ])('is refused with a TypeError that names the argument: %s', (_, path) => {
    expect(() => pathBytes(path as PathLike, 'upper')).toThrow(invalid);
    expect(() => pathBytes(path as PathLike, 'upper')).toThrow(/^upper /);
  });

  it.each([
    ['a string', ''],
    ['bytes', new Uint8Array()],
  ])('is refused as empty: %s', (_, path) => {
    expect(() => pathBytes(path, 'work')).toThrow(
      expect.objectContaining({
        code: 'ERR_OVERLAY_EMPTY_PATH',
        message: expect.stringContaining('work is empty'),
      }),
    );
  });
});

describe('an absolute path', () => {
  const cwd = process.cwd();
  let made: string | undefined;
  afterEach(() => {
    process.chdir(cwd);
    if (made !== undefined) rmdirSync(made);
    made = undefined;
  });

  it.each([
    ['/a/../b', '/a/../b'],
    ['a', `${cwd}/a`],
    ['./a', `${cwd}/a`],
    ['.', cwd],
    ['..', `${cwd}/..`],
    ['../a', `${cwd}/../a`],
    ['.hidden', `${cwd}/.hidden`],
  ])('of %j is %j', (path, absolute) => {
    expect(absolutePath(path, 'target').toString()).toBe(absolute);
  });

  it('has one slash where the current directory is the root', () => {
    process.chdir('/');
    expect(absolutePath('a', 'target').toString()).toBe('/a');
    expect(absolutePath('.', 'target').toString()).toBe('/');
  });

  it('keeps a current directory whose name is not UTF-8', () => {
    made = mkdtempSync(join(tmpdir(), 'overlayfs-\ufffd-'));
    process.chdir(made);
    expect(absolutePath('a', 'target')).toEqual(Buffer.from(`${made}/a`));
  });
});

describe('a directory', () => {
  it('is a path, or a descriptor’s number', () => {
    expect(directoryRef('/a', 'lower')).toEqual(Buffer.from('/a'));
    expect(directoryRef({ fd: 7 }, 'lower')).toBe(7);
  });

  it.each<[string, unknown]>([
    ['a negative descriptor', { fd: -1 }],
    ['half a descriptor', { fd: 1.5 }],
    ['a descriptor beyond 31 bits', { fd: 2 ** 31 }],
    ['a descriptor that is a string', { fd: '3' }],
    ['a plain number', 3],
  ])('is refused with a TypeError: %s', (_, ref) => {
    expect(() => directoryRef(ref as DirRef, 'lower[1]')).toThrow(invalid);
    expect(() => directoryRef(ref as DirRef, 'lower[1]')).toThrow(/^lower\[1\]/);
  });
});

describe('a path in a message', () => {
  it('is UTF-8 as it is, and shows every other byte as \\xNN', () => {
    expect(showPath(Buffer.from('/é'))).toBe('/é');
    expect(showPath(notUtf8)).toBe('/a\\xff\\xfe');
    // So that no two of these look the same.
    expect(showPath(Buffer.from('/a\xff\\xfe', 'latin1'))).toBe('/a\\xff\\x5cxfe');
    expect(showRef(3)).toBe('fd 3');
    expect(showRef(Buffer.from('/a'))).toBe('/a');
  });

  it('has an exact string if and only if it is UTF-8', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 1 }), (bytes) => {
        const buffer = Buffer.from(bytes);
        const text = exactString(buffer);
        const isUtf8 = Buffer.from(buffer.toString()).equals(buffer);
        return isUtf8 ? text !== undefined && Buffer.from(text).equals(buffer) : text === undefined;
      }),
    );
  });
});
