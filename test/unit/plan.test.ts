// @module-tag vm
import { constants } from 'node:os';
import { describe, expect, it } from 'vitest';
import { OverlayError } from '../../lib/index.ts';
import type { KernelFeatures, Rung } from '../../lib/native/binding.ts';
import { checkOptions, type OverlayOptions } from '../../lib/overlay/options.ts';
import { makePlan, type PlanContext, type PreparedPlan } from '../../lib/overlay/plan.ts';

/** Linux 6.18, as root of the machine. */
const newest: KernelFeatures = {
  fsopenErrno: 0,
  nativeParser: true,
  layerFds: 'path',
  lowerdirAppend: true,
  detachedLayers: true,
  statmount: true,
  initialUserNamespace: true,
  sysAdmin: true,
  options: [
    'redirect_dir',
    'index',
    'nfs_export',
    'xino',
    'metacopy',
    'uuid',
    'verity',
    'fsync',
    'userxattr',
    'volatile',
    'override_creds',
    'default_permissions',
  ],
  filtered: [],
};
const older = { ...newest, detachedLayers: false };
/** What other kernels lack; the numbers are what these features look like from outside, not what is compared. */
const kernels = {
  '6.18': newest,
  '6.13': { ...older, layerFds: 'readable' },
  '6.12': { ...older, layerFds: 'none' },
  '6.6': { ...older, layerFds: 'none', lowerdirAppend: false, statmount: false },
  '6.1': {
    ...older,
    layerFds: 'none',
    lowerdirAppend: false,
    statmount: false,
    nativeParser: false,
    options: [],
  },
  '5.1': {
    ...older,
    fsopenErrno: -constants.errno.ENOSYS,
    layerFds: 'none',
    lowerdirAppend: false,
    statmount: false,
    nativeParser: false,
    options: [],
  },
  'filtered by seccomp': {
    ...older,
    fsopenErrno: -constants.errno.EPERM,
    layerFds: 'none',
    lowerdirAppend: false,
    nativeParser: false,
    options: [],
  },
} satisfies Record<string, KernelFeatures>;
const userNamespace: KernelFeatures = { ...newest, initialUserNamespace: false };

const readonly = { lower: ['/a', '/b'] } as const;
const writable = { lower: '/a', upper: '/u', work: '/w' } as const;

function prepare(options: OverlayOptions, context: Partial<PlanContext> = {}): PreparedPlan {
  return makePlan(checkOptions(options), {
    features: newest,
    demandsMetacopy: false,
    ownSource: 'overlayfs:1:2:3:4',
    unownedSource: 'overlayfs',
    ...context,
  });
}
const plan = (options: OverlayOptions, context: Partial<PlanContext> = {}) => prepare(options, context).plan;
const sent = (options: OverlayOptions, context: Partial<PlanContext> = {}) => plan(options, context).options;
const codes = (options: OverlayOptions, context: Partial<PlanContext> = {}): string[] => {
  try {
    prepare(options, context);
    return [];
  } catch (error) {
    if (error instanceof OverlayError) return error.findings.map(({ code }) => code);
    throw error;
  }
};

const defaults = { redirect_dir: 'follow', index: 'off', nfs_export: 'off', xino: 'off', metacopy: 'off' };

describe('a plan', () => {
  it('spells every default out, so that none of the module’s own leaks in', () => {
    expect(plan({ ...writable, target: '/m' })).toEqual({
      lower: ['/a'],
      dataOnlyLower: [],
      upper: '/u',
      work: '/w',
      scratch: false,
      target: '/m',
      options: defaults,
      readonly: false,
      mountFlags: [],
      propagation: 'private',
      source: 'overlayfs:1:2:3:4',
      rungs: ['layer-fds', 'layer-names', 'mount', 'mount-fd-names'],
      degradations: [],
    });
  });

  it('asks whether upper and work are in use, leaves the marker alone and wants no attributes by itself', () => {
    expect(prepare(writable).native).toMatchObject({
      checkInUse: true,
      removeVolatileMarker: false,
      requireXattrs: false,
      xattrPrefix: 'trusted.overlay.',
      keepUpperForSync: false,
      keepOnExit: false,
      mkdirTarget: false,
      emptyLower: false,
    });
  });

  it.each<[string, OverlayOptions, Record<string, string | true>]>([
    ['metacopy turns redirects on', { ...writable, metacopy: true }, { metacopy: 'on', redirect_dir: 'on' }],
    [
      'metacopy without an upper may follow',
      { ...readonly, metacopy: true, redirectDir: 'follow' },
      { metacopy: 'on', redirect_dir: 'follow' },
    ],
    ['nfsExport turns the index on', { ...writable, nfsExport: true }, { nfs_export: 'on', index: 'on' }],
    [
      'userxattr ends redirects',
      { ...writable, userxattr: true },
      { userxattr: true, redirect_dir: 'nofollow' },
    ],
    [
      'userxattr takes an explicit nofollow',
      { ...writable, userxattr: true, redirectDir: 'nofollow' },
      { userxattr: true, redirect_dir: 'nofollow' },
    ],
    [
      'userxattr takes verity',
      { ...writable, userxattr: true, verity: 'on' },
      { userxattr: true, verity: 'on', redirect_dir: 'nofollow' },
    ],
    ['xino is passed on', { ...readonly, xino: 'auto' }, { xino: 'auto' }],
    ['uuid is passed on', { ...writable, uuid: 'null' }, { uuid: 'null' }],
    ['volatile is a flag', { ...writable, volatile: true }, { volatile: true }],
    [
      'verity alone needs no metacopy here',
      { ...readonly, verity: 'require' },
      { verity: 'require', metacopy: 'off' },
    ],
    [
      'what else the kernel knows is passed on',
      { ...readonly, kernelOptions: { fsync: 'strict', default_permissions: true } },
      { fsync: 'strict', default_permissions: true },
    ],
  ])('settles that %s', (_, options, expected) => {
    expect(sent(options)).toEqual({ ...defaults, ...expected });
  });

  it.each<[string, OverlayOptions, Record<string, string>]>([
    ['verity', { ...readonly, verity: 'on' }, { metacopy: 'on', redirect_dir: 'on' }],
    ['data-only layers', { ...readonly, dataOnlyLower: ['/d'] }, { metacopy: 'on', redirect_dir: 'on' }],
    [
      'verity, where the caller says no',
      { ...readonly, verity: 'on', metacopy: false },
      { metacopy: 'off', redirect_dir: 'follow' },
    ],
    [
      'verity, under userxattr',
      { ...readonly, verity: 'on', userxattr: true },
      { metacopy: 'off', redirect_dir: 'nofollow' },
    ],
  ])('sends metacopy with %s where the kernel demands it', (_, options, expected) => {
    expect(sent(options, { demandsMetacopy: true })).toMatchObject(expected);
  });

  it('turns userxattr on by itself inside a user namespace only, and says that in-use cannot be known there', () => {
    expect(sent(writable, { features: userNamespace })).toMatchObject({
      userxattr: true,
      redirect_dir: 'nofollow',
    });
    expect(sent({ ...writable, userxattr: false }, { features: userNamespace })).not.toHaveProperty(
      'userxattr',
    );
    expect(sent(writable)).not.toHaveProperty('userxattr');
    const { plan, native } = prepare(writable, { features: userNamespace });
    expect(native).toMatchObject({ checkInUse: false, xattrPrefix: 'user.overlay.' });
    expect(plan.degradations).toMatchObject([{ code: 'WARN_OVERLAY_IN_USE_UNKNOWN' }]);
  });

  it('leaves out a default that this kernel does not know, but sends what is asked for', () => {
    const features = { ...newest, options: ['index'] };
    expect(sent(readonly, { features })).toEqual({ index: 'off' });
    expect(sent({ ...readonly, xino: 'on' }, { features })).toEqual({ index: 'off', xino: 'on' });
  });

  it('sends every default where nobody can tell what the kernel knows', () => {
    expect(sent({ ...readonly, target: '/m' }, { features: kernels['6.1'] })).toEqual(defaults);
  });

  it('keeps the order in which layers are given, descriptors and names that are not UTF-8 included', () => {
    const lower = [{ fd: 5 }, Buffer.from('/\xff', 'latin1'), '/a'];
    expect(plan({ lower }).lower).toEqual(['fd 5', '/\\xff', '/a']);
    expect(prepare({ lower }).native.lower).toEqual([5, Buffer.from('/\xff', 'latin1'), Buffer.from('/a')]);
  });

  it('names no process as the owner of a mount that is kept on exit, nor where the caller names a source', () => {
    expect(plan({ ...readonly, target: '/m', keepOnExit: true }).source).toBe('overlayfs');
    expect(plan({ ...readonly, source: 'mine' }).source).toBe('mine');
  });

  it('adds an empty lower only where the kernel would refuse a single one', () => {
    const adds = (options: OverlayOptions) =>
      prepare({ ...options, allowSingleLower: true }).native.emptyLower;
    expect(adds({ lower: '/a' })).toBe(true);
    expect(adds(readonly)).toBe(false);
    expect(adds({ lower: '/a', dataOnlyLower: ['/d'] })).toBe(false);
    expect(adds(writable)).toBe(false);
    expect(adds({ lower: '/a', scratch: true })).toBe(false);
  });

  it('holds the flags of the mount; relatime is what the kernel does anyway', () => {
    const mountFlags = { noexec: true, nosuid: true, nodev: false, nodiratime: true, relatime: true };
    expect(plan({ ...readonly, mountFlags }).mountFlags).toEqual(['nosuid', 'noexec', 'nodiratime']);
  });

  it('keeps the upper open for the final sync of a volatile mount', () => {
    expect(prepare({ ...writable, volatile: true }).native.keepUpperForSync).toBe(true);
  });

  it.each<[string, OverlayOptions]>([
    ['index', { ...readonly, index: true }],
    ['volatile', { ...readonly, volatile: true }],
    ["uuid: 'on'", { ...readonly, uuid: 'on' }],
  ])('says that the kernel ignores %s without an upper', (option, options) => {
    expect(plan(options).degradations).toMatchObject([
      {
        code: 'WARN_OVERLAY_OPTION_IGNORED',
        severity: 'warning',
        detail: expect.stringContaining(option),
        fix: expect.stringMatching(/./),
      },
    ]);
  });

  it('says that the kernel ignores nfsExport without an upper unless redirects are off', () => {
    const ignored = (options: OverlayOptions) =>
      plan(options)
        .degradations.map(({ detail }) => detail)
        .join();
    expect(ignored({ ...readonly, nfsExport: true })).toContain('nfsExport');
    expect(ignored({ ...readonly, nfsExport: true, redirectDir: 'nofollow' })).not.toContain('nfsExport');
  });
});

describe('a plan that contradicts itself', () => {
  it.each<[string, OverlayOptions]>([
    ['metacopy with redirectDir nofollow', { ...readonly, metacopy: true, redirectDir: 'nofollow' }],
    ['metacopy with redirectDir follow and an upper', { ...writable, metacopy: true, redirectDir: 'follow' }],
    [
      'metacopy with redirectDir follow and scratch',
      { lower: '/a', scratch: true, metacopy: true, redirectDir: 'follow' },
    ],
    ['nfsExport with metacopy', { ...writable, nfsExport: true, metacopy: true }],
    ['nfsExport without index', { ...writable, nfsExport: true, index: false }],
    ['userxattr with metacopy', { ...writable, userxattr: true, metacopy: true }],
    ['userxattr with redirectDir on', { ...writable, userxattr: true, redirectDir: 'on' }],
    ['userxattr with redirectDir follow', { ...writable, userxattr: true, redirectDir: 'follow' }],
  ])('is refused on every kernel: %s', (_, options) => {
    for (const features of Object.values(kernels)) {
      expect(codes({ ...options, target: '/m' }, { features })[0]).toBe('ERR_OVERLAY_OPTIONS_CONFLICT');
    }
  });

  it.each<[string, OverlayOptions, string]>([
    ['no lower', { lower: [] }, 'ERR_OVERLAY_NO_LOWER'],
    ['only data layers', { lower: [], dataOnlyLower: ['/d', '/e'] }, 'ERR_OVERLAY_NO_REGULAR_LOWER'],
    ['501 lowers', { lower: Array.from({ length: 501 }, (_, i) => `/${i}`) }, 'ERR_OVERLAY_TOO_MANY_LOWERS'],
    [
      '500 lowers and a data layer',
      { lower: Array.from({ length: 500 }, (_, i) => `/${i}`), dataOnlyLower: ['/d'] },
      'ERR_OVERLAY_TOO_MANY_LOWERS',
    ],
    ['an upper without work', { lower: '/a', upper: '/u' }, 'ERR_OVERLAY_WORK_MISSING'],
    ['work without an upper', { lower: ['/a', '/b'], work: '/w' }, 'ERR_OVERLAY_UPPER_MISSING'],
    ['scratch beside an upper', { ...writable, scratch: true }, 'ERR_OVERLAY_OPTIONS_CONTRADICT'],
    ['a single lower without an upper', { lower: '/a' }, 'ERR_OVERLAY_SINGLE_LOWER'],
    ['mkdirTarget without a target', { ...readonly, mkdirTarget: true }, 'ERR_OVERLAY_OPTIONS_CONTRADICT'],
    ['keepOnExit of a detached view', { ...readonly, keepOnExit: true }, 'ERR_OVERLAY_OPTIONS_CONTRADICT'],
    [
      'removeVolatileMarker without work',
      { ...readonly, removeVolatileMarker: true },
      'ERR_OVERLAY_OPTIONS_CONTRADICT',
    ],
    [
      'noatime with strictatime',
      { ...readonly, mountFlags: { noatime: true, strictatime: true } },
      'ERR_OVERLAY_OPTIONS_CONTRADICT',
    ],
    [
      'noatime with relatime',
      { ...readonly, mountFlags: { noatime: true, relatime: true } },
      'ERR_OVERLAY_OPTIONS_CONTRADICT',
    ],
    ['a source of 256 bytes', { ...readonly, source: 'é'.repeat(128) }, 'ERR_OVERLAY_OPTION_TOO_LONG'],
    [
      'a kernel option of 256 bytes',
      { ...readonly, kernelOptions: { context: 'x'.repeat(256) } },
      'ERR_OVERLAY_OPTION_TOO_LONG',
    ],
    ['a detached view by mount(2)', { ...readonly, mountApi: 'mount' }, 'ERR_OVERLAY_NO_DETACHED'],
  ])('is refused before anything is opened: %s', (_, options, code) => {
    expect(codes(options)).toEqual([code]);
  });

  it('is refused for what this kernel cannot do: fsconfig(2), or a detached view', () => {
    const features = kernels['5.1'];
    expect(codes({ ...readonly, target: '/m', mountApi: 'fsconfig' }, { features })).toEqual([
      'ERR_OVERLAY_MOUNT_API_UNAVAILABLE',
    ]);
    expect(codes(readonly, { features })).toEqual(['ERR_OVERLAY_NO_DETACHED']);
  });

  it('takes the long value that only fsconfig(2) refuses by mount(2)', () => {
    const options: OverlayOptions = { ...readonly, target: '/m', source: 'x'.repeat(256) };
    expect(codes({ ...options, mountApi: 'mount' })).toEqual([]);
    expect(codes(options, { features: kernels['5.1'] })).toEqual([]);
  });

  it('tells everything that is wrong, most telling first, each with its way out', () => {
    const options: OverlayOptions = {
      lower: [],
      upper: '/u',
      nfsExport: true,
      index: false,
      mkdirTarget: true,
    };
    expect(codes(options)).toEqual([
      'ERR_OVERLAY_NO_LOWER',
      'ERR_OVERLAY_WORK_MISSING',
      'ERR_OVERLAY_OPTIONS_CONFLICT',
      'ERR_OVERLAY_OPTIONS_CONTRADICT',
    ]);
    expect(() => prepare(options)).toThrow(
      expect.objectContaining({
        findings: expect.arrayContaining([
          expect.objectContaining({ severity: 'error', fix: expect.stringMatching(/./) }),
        ]),
      }),
    );
  });

  it.each<[string, OverlayOptions]>([
    ['two lowers', readonly],
    ['a lower and a data layer', { lower: '/a', dataOnlyLower: ['/d'] }],
    ['500 lowers', { lower: Array.from({ length: 500 }, (_, i) => `/${i}`) }],
    ['a single lower with scratch', { lower: '/a', scratch: true }],
    ['a source of 255 bytes', { ...readonly, source: 'x'.repeat(255) }],
    ['a read-only overlay with an upper', { ...writable, readonly: true }],
    [
      'everything said to be off',
      {
        ...writable,
        index: false,
        metacopy: false,
        nfsExport: false,
        volatile: false,
        redirectDir: 'nofollow',
      },
    ],
  ])('is not one: %s', (_, options) => {
    expect(codes(options)).toEqual([]);
  });
});

describe('the ladder', () => {
  type Api = NonNullable<OverlayOptions['mountApi']>;
  const byMount: Rung[] = ['mount', 'mount-fd-names'];
  const ladders: Readonly<Record<keyof typeof kernels, Readonly<Record<'detached' | Api, Rung[]>>>> = {
    '6.18': {
      auto: ['layer-fds', 'layer-names', ...byMount],
      fsconfig: ['layer-fds', 'layer-names'],
      detached: ['layer-fds', 'layer-names'],
      mount: byMount,
    },
    '6.13': {
      auto: ['layer-fds', 'layer-names', ...byMount],
      fsconfig: ['layer-fds', 'layer-names'],
      detached: ['layer-fds', 'layer-names'],
      mount: byMount,
    },
    '6.12': {
      auto: ['layer-names', ...byMount],
      fsconfig: ['layer-names'],
      detached: ['layer-names'],
      mount: byMount,
    },
    // One joined lowerdir of 255 bytes is worse than mount(2), and taken only where nothing else will do.
    '6.6': { auto: byMount, fsconfig: ['joined-names'], detached: ['joined-names'], mount: byMount },
    '6.1': { auto: byMount, fsconfig: ['joined-names'], detached: ['joined-names'], mount: byMount },
    '5.1': { auto: byMount, fsconfig: [], detached: [], mount: byMount },
    // The attempt itself is what says why.
    'filtered by seccomp': {
      auto: ['layer-fds', ...byMount],
      fsconfig: ['layer-fds'],
      detached: ['layer-fds'],
      mount: byMount,
    },
  };

  it.each(Object.entries(ladders))(
    'on a kernel like %s has the rungs that it may have',
    (kernel, expected) => {
      const features = kernels[kernel as keyof typeof kernels];
      const rungs = (options: OverlayOptions) => {
        try {
          return plan(options, { features }).rungs;
        } catch {
          return [];
        }
      };
      expect({
        auto: rungs({ ...readonly, target: '/m' }),
        fsconfig: rungs({ ...readonly, target: '/m', mountApi: 'fsconfig' }),
        detached: rungs(readonly),
        mount: rungs({ ...readonly, target: '/m', mountApi: 'mount' }),
      }).toEqual(expected);
    },
  );
});
