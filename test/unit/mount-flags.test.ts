// The flags of `overlayfs mount` are the options of mountOverlay().
import { describe, expect, it } from 'vitest';
import { readArguments } from '../../lib/cli/arguments.ts';
import { kebabCase, mountFlags, mountOptions } from '../../lib/cli/mount-flags.ts';
import { checkOptions, type OverlayOptions } from '../../lib/overlay/options.ts';

const options = (...args: string[]) => mountOptions(readArguments(args, mountFlags));
const text = (value: unknown): unknown => JSON.parse(JSON.stringify(value, (_, one) => printed(one)));
const printed = (one: unknown) => {
  if (typeof one === 'bigint') return String(one);
  return one instanceof Object && 'data' in one && Array.isArray(one.data)
    ? Buffer.from(one.data).toString()
    : one;
};

describe('the flags of a mount', () => {
  it('are all options but those that are about a process that goes on', () => {
    const every: Record<keyof OverlayOptions, true | string[]> = {
      lower: true,
      dataOnlyLower: true,
      upper: true,
      work: true,
      index: true,
      metacopy: true,
      userxattr: true,
      redirectDir: true,
      scratch: true,
      target: [],
      mkdirTarget: true,
      readonly: true,
      allowSingleLower: true,
      keepOnExit: [],
      checkInUse: true,
      removeVolatileMarker: true,
      strict: true,
      xino: true,
      nfsExport: true,
      uuid: true,
      verity: true,
      volatile: true,
      kernelOptions: ['option'],
      mountFlags: ['noexec', 'nosuid', 'nodev', 'noatime', 'nodiratime', 'relatime', 'strictatime'],
      propagation: true,
      source: true,
      mountApi: true,
      unmountOnSignals: [],
      signal: [],
    };
    const names = Object.entries(every).flatMap(([name, flags]) =>
      flags === true ? [kebabCase(name)] : flags,
    );
    expect(Object.keys(mountFlags).sort()).toEqual(names.sort());
  });

  it('each become the option of that name', () => {
    const given = options(
      ...[
        '-l',
        '/a',
        '--lower=/b',
        '--data-only-lower',
        '/c',
        '-u',
        '/u',
        '-w',
        '/w',
        '--scratch=2k',
        '--mkdir-target',
      ],
      ...[
        '-r',
        '--allow-single-lower',
        '--index',
        '--no-metacopy',
        '--userxattr',
        '--redirect-dir',
        'on',
        '--xino',
        'auto',
      ],
      ...[
        '--nfs-export',
        '--uuid',
        'null',
        '--verity',
        'on',
        '--volatile',
        '-o',
        'fsync=strict',
        '-o',
        'new',
        '--noexec',
      ],
      ...[
        '--strictatime',
        '--propagation',
        'shared',
        '--source',
        's',
        '--mount-api',
        'mount',
        '--no-check-in-use',
      ],
      ...['--remove-volatile-marker', '--strict', '/m'],
    );
    expect(text(given)).toEqual({
      lower: ['/a', '/b'],
      dataOnlyLower: ['/c'],
      upper: '/u',
      work: '/w',
      scratch: { size: '2048' },
      target: '/m',
      mkdirTarget: true,
      readonly: true,
      allowSingleLower: true,
      index: true,
      metacopy: false,
      userxattr: true,
      redirectDir: 'on',
      xino: 'auto',
      nfsExport: true,
      uuid: 'null',
      verity: 'on',
      volatile: true,
      kernelOptions: { fsync: 'strict', new: true },
      mountFlags: { noexec: true, strictatime: true },
      propagation: 'shared',
      source: 's',
      mountApi: 'mount',
      checkInUse: false,
      removeVolatileMarker: true,
      strict: true,
    });
    expect(() => checkOptions(given)).not.toThrow();
  });

  it('leave out what is not given', () => {
    expect(text(options('-l', '/a', '--scratch', '/m'))).toEqual({
      lower: ['/a'],
      scratch: true,
      target: '/m',
    });
  });

  it('take sizes in powers of 1024', () => {
    const size = (word: string) => text(options('-l', '/a', `--scratch=${word}`).scratch);
    expect(['7', '1K', '3m', '1G', '1t'].map(size)).toEqual(
      [7n, 1024n, 3n << 20n, 1n << 30n, 1n << 40n].map((bytes) => ({ size: String(bytes) })),
    );
  });
});
