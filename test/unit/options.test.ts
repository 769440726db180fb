// @module-tag vm
import { describe, expect, it } from 'vitest';
import { mountOverlay, planOverlay } from '../../lib/index.ts';
import { openFlags } from '../../lib/overlay/open-flags.ts';
import { checkOptions, type OverlayOptions } from '../../lib/overlay/options.ts';

const invalid = (name: string) =>
  expect.objectContaining({
    name: 'TypeError',
    code: 'ERR_INVALID_ARG_VALUE',
    message: expect.stringMatching(new RegExp(`^${name.replace(/[.[\]+]/g, '\\$&')} `)),
  });
const given = (options: object) => ({ lower: '/lower', ...options }) as OverlayOptions;

// Every option with one value that is right, and values that are not.
const options: Readonly<
  Record<Exclude<keyof OverlayOptions, 'lower'>, { right: unknown; wrong: readonly unknown[] }>
> = {
  dataOnlyLower: { right: ['/data'], wrong: [3, [3], [null], { fd: -1 }] },
  upper: { right: { fd: 3 }, wrong: [3, null, true, ['/a'], { fd: 'x' }] },
  work: { right: '/work', wrong: [3, null, true, ['/a']] },
  target: { right: Buffer.from('/merged'), wrong: [3, null, { fd: 3 }, new URL('https://example.org')] },
  index: { right: true, wrong: ['on', 1, null] },
  metacopy: { right: false, wrong: ['off', 0, null] },
  userxattr: { right: true, wrong: ['', 1, null] },
  redirectDir: { right: 'follow', wrong: ['off', true, null, 'ON'] },
  scratch: {
    right: { size: 4096n },
    wrong: [false, null, { size: 4096 }, { size: 0n }, { size: -1n }, { sizes: 1n }, { size: 2n ** 64n }],
  },
  mkdirTarget: { right: true, wrong: ['yes', 0o755] },
  readonly: { right: true, wrong: ['ro', 1] },
  allowSingleLower: { right: true, wrong: [1] },
  keepOnExit: { right: true, wrong: ['yes'] },
  checkInUse: { right: false, wrong: [0] },
  removeVolatileMarker: { right: true, wrong: [1] },
  strict: { right: true, wrong: ['strict'] },
  xino: { right: 'auto', wrong: [true, 'maybe'] },
  nfsExport: { right: true, wrong: ['on'] },
  uuid: { right: 'null', wrong: [null, true, 'yes'] },
  verity: { right: 'require', wrong: [true, 'yes'] },
  volatile: { right: true, wrong: ['volatile', 1] },
  kernelOptions: {
    right: { fsync: 'strict', default_permissions: true },
    wrong: ['fsync=strict', null, ['fsync'], { fsync: false }, { fsync: 3 }],
  },
  mountFlags: {
    right: { noexec: true, relatime: false },
    wrong: ['noexec', ['noexec'], { noexec: 1 }, { no_exec: true }, null],
  },
  propagation: { right: 'slave', wrong: ['rprivate', true] },
  source: { right: 'mine', wrong: [3, null, 'a\0b'] },
  mountApi: { right: 'mount', wrong: ['fsopen', true] },
  unmountOnSignals: { right: ['SIGTERM'], wrong: ['SIGTERM', [15], ['SIGTERM', null], new Set(['SIGTERM'])] },
  signal: { right: new AbortController().signal, wrong: [{}, 'SIGTERM', new AbortController()] },
};
const wrongValues = Object.entries(options).flatMap(([name, { wrong }]) =>
  wrong.map((value) => [name, value] as const),
);

describe('the options of a mount', () => {
  it.each(Object.entries(options))('take %s', (name, { right }) => {
    expect(checkOptions(given({ [name]: right }))).toHaveProperty(name);
  });

  it.each(Object.keys(options))('take %s: undefined as not given', (name) => {
    expect(checkOptions(given({ [name]: undefined }))).toEqual(
      expect.objectContaining({ lower: [Buffer.from('/lower')], dataOnlyLower: [] }),
    );
  });

  it.each(wrongValues)('refuse %s: %o with a TypeError', (name, value) => {
    expect(() => checkOptions(given({ [name]: value }))).toThrow(
      expect.objectContaining({
        name: 'TypeError',
        code: 'ERR_INVALID_ARG_VALUE',
        message: expect.stringContaining(name),
      }),
    );
  });

  it.each<[string, unknown, string]>([
    ['a misspelt option', { lower: '/a', uper: '/b' }, 'options.uper'],
    ['a missing lower', { upper: '/a', work: '/b' }, 'lower'],
    ['a lower that is null', { lower: null }, 'lower'],
    ['a lower inside an array that is a number', { lower: ['/a', 3] }, 'lower[1]'],
    ['a NUL byte in a layer', { lower: ['/a', '/b\0c'] }, 'lower[1]'],
    ['a NUL byte in the target', { lower: '/a', target: Buffer.from('/a\0') }, 'target'],
    ['a string in place of the object', '/a', 'options'],
    ['nothing at all', undefined, 'options'],
    ['an array in place of the object', ['/a'], 'options'],
  ])('refuse %s with a TypeError that names it', async (_, value, name) => {
    await expect(mountOverlay(value as OverlayOptions)).rejects.toThrow(invalid(name));
    await expect(planOverlay(value as OverlayOptions)).rejects.toThrow(invalid(name));
  });

  it.each([
    'lowerdir',
    'lowerdir+',
    'datadir+',
    'upperdir',
    'workdir',
    'redirect_dir',
    'index',
    'nfs_export',
    'xino',
    'metacopy',
    'uuid',
    'verity',
    'userxattr',
    'volatile',
    'source',
    'ro',
    'rw',
  ])('refuse the kernel option %s, which has an option of its own', (key) => {
    expect(() => checkOptions(given({ kernelOptions: { [key]: 'x' } }))).toThrow(
      expect.objectContaining({
        code: 'ERR_INVALID_ARG_VALUE',
        message: expect.stringContaining('has an option of its own'),
      }),
    );
  });

  it.each(['', 'a=b', 'a,b', 'a\0b'])('refuse the kernel option name %j', (key) => {
    expect(() => checkOptions(given({ kernelOptions: { [key]: 'x' } }))).toThrow(
      expect.objectContaining({ code: 'ERR_INVALID_ARG_VALUE' }),
    );
  });

  it('take one lower, or several, as paths or descriptors', () => {
    expect(checkOptions({ lower: { fd: 5 } }).lower).toEqual([5]);
    expect(checkOptions({ lower: ['/a', { fd: 5 }, Buffer.from('/b')] }).lower).toEqual([
      Buffer.from('/a'),
      5,
      Buffer.from('/b'),
    ]);
  });

  it('are resolved against the current directory at the call', () => {
    const { lower, upper } = checkOptions({ lower: 'base', upper: './upper' });
    expect(lower).toEqual([Buffer.from(`${process.cwd()}/base`)]);
    expect(upper).toEqual(Buffer.from(`${process.cwd()}/upper`));
  });
});

describe('the flags of open()', () => {
  // What each word means is the manual's affair; Node.js translates only for itself.
  const { O_RDONLY, O_WRONLY, O_RDWR, O_CREAT, O_TRUNC, O_APPEND, O_EXCL, O_SYNC } = {
    O_RDONLY: 0,
    O_WRONLY: 1,
    O_RDWR: 2,
    O_CREAT: 0o100,
    O_EXCL: 0o200,
    O_TRUNC: 0o1000,
    O_APPEND: 0o2000,
    O_SYNC: 0o4010000,
  };
  it.each([
    ['r', O_RDONLY],
    ['rs', O_RDONLY | O_SYNC],
    ['r+', O_RDWR],
    ['rs+', O_RDWR | O_SYNC],
    ['w', O_WRONLY | O_CREAT | O_TRUNC],
    ['wx', O_WRONLY | O_CREAT | O_TRUNC | O_EXCL],
    ['w+', O_RDWR | O_CREAT | O_TRUNC],
    ['wx+', O_RDWR | O_CREAT | O_TRUNC | O_EXCL],
    ['a', O_WRONLY | O_CREAT | O_APPEND],
    ['ax', O_WRONLY | O_CREAT | O_APPEND | O_EXCL],
    ['as', O_WRONLY | O_CREAT | O_APPEND | O_SYNC],
    ['a+', O_RDWR | O_CREAT | O_APPEND],
    ['ax+', O_RDWR | O_CREAT | O_APPEND | O_EXCL],
    ['as+', O_RDWR | O_CREAT | O_APPEND | O_SYNC],
  ])('%s are %i', (word, bits) => {
    expect(openFlags(word)).toBe(bits);
  });

  it('are taken as they are when they are a number', () => {
    expect(openFlags(O_RDWR | O_CREAT)).toBe(O_RDWR | O_CREAT);
  });

  it.each(['', 'rw', 'toString', -1, 1.5, Number.NaN])('refuse %j with a TypeError', (flags) => {
    expect(() => openFlags(flags)).toThrow(expect.objectContaining({ code: 'ERR_INVALID_ARG_VALUE' }));
  });
});
