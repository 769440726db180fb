/**
 * Everything that a caller can get wrong: each has a code of its own and a way out, and leaves nothing behind.
 */
import { execFileSync } from 'node:child_process';
import { closeSync, constants, mkdirSync, openSync, rmdirSync, symlinkSync } from 'node:fs';
import { constants as os } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { doctor, mountOverlay, type OverlayOptions, planOverlay, unmount } from '../../lib/index.ts';
import { runChild } from '../support/child.ts';
import { describePrivileged } from '../support/needs.ts';
import { expectRefusal } from '../support/refusal.ts';
import {
  afterThisTest,
  describeOn,
  fileSystems,
  type Layers,
  type Scratch,
  scratchOn,
} from '../support/scratch.ts';

/** Mounts, and returns where. */
function mount(...args: string[]): string {
  const point = args.at(-1) ?? '';
  execFileSync('mount', args);
  afterThisTest(() => execFileSync('umount', [point]));
  return point;
}
const bind = (from: string, to: string, ...options: string[]) => mount('--bind', ...options, from, to);

async function mounted(options: OverlayOptions): Promise<string> {
  const overlay = await mountOverlay(options);
  afterThisTest(() => overlay.unmount());
  return overlay.path();
}

function fdOf(path: string): { readonly fd: number } {
  const fd = openSync(path, constants.O_RDONLY);
  afterThisTest(() => closeSync(fd));
  return { fd };
}

/** The options that are wrong, made of four directories that are right. */
type Arrange = (layers: Layers, scratch: Scratch) => OverlayOptions | Promise<OverlayOptions>;
type Rows = readonly (readonly [title: string, code: string, arrange: Arrange])[];

// An index is compared with its layers by CREATE alone, and mount(2) names no option.
const onlyTheMountTells = ['an index made with another lower', 'an unknown one, by mount(2)'];

function refuses(title: string, rows: Rows): void {
  describePrivileged(`a mount is refused for ${title}`, () => {
    const scratch = scratchOn();
    it.each(rows)('%s: %s', async (row, code, arrange) => {
      const options = await arrange(scratch.layers(), scratch);
      const error = await expectRefusal(scratch, code, () => mountOverlay(options));
      // The doctor says the same beforehand: code, path and fix.
      if (onlyTheMountTells.includes(row)) return;
      const [found] = (await doctor(options)).filter(({ severity }) => severity === 'error');
      expect(found).toEqual(error.findings[0]);
    });
  });
}

refuses('layers that are missing from the options', [
  ['no lower', 'ERR_OVERLAY_NO_LOWER', (l) => ({ ...l, lower: [] })],
  [
    'data-only lowers alone',
    'ERR_OVERLAY_NO_REGULAR_LOWER',
    (l) => ({ ...l, lower: [], dataOnlyLower: [l.lower] }),
  ],
  ['an empty lower', 'ERR_OVERLAY_EMPTY_PATH', (l) => ({ ...l, lower: [l.lower, ''] })],
  ['an empty upper', 'ERR_OVERLAY_EMPTY_PATH', (l) => ({ ...l, upper: '' })],
  ['an empty work', 'ERR_OVERLAY_EMPTY_PATH', (l) => ({ ...l, work: Buffer.alloc(0) })],
  ['an empty target', 'ERR_OVERLAY_EMPTY_PATH', (l) => ({ ...l, target: '' })],
  ['an upper without work', 'ERR_OVERLAY_WORK_MISSING', ({ work: _, ...l }) => l],
  ['work without an upper', 'ERR_OVERLAY_UPPER_MISSING', ({ upper: _, ...l }) => l],
  ['a single lower without an upper', 'ERR_OVERLAY_SINGLE_LOWER', ({ lower, target }) => ({ lower, target })],
  ['501 lowers', 'ERR_OVERLAY_TOO_MANY_LOWERS', (l) => ({ ...l, lower: Array<string>(501).fill(l.lower) })],
]);

refuses('a layer that is no directory here', [
  ['a missing lower', 'ERR_OVERLAY_LAYER_NOT_FOUND', (l, s) => ({ ...l, lower: s.path('no') })],
  [
    'the second lower missing',
    'ERR_OVERLAY_LAYER_NOT_FOUND',
    (l, s) => ({ ...l, lower: [l.lower, s.path('no')] }),
  ],
  [
    'a missing data-only lower',
    'ERR_OVERLAY_LAYER_NOT_FOUND',
    (l, s) => ({ ...l, dataOnlyLower: [s.path('no')] }),
  ],
  ['a missing upper', 'ERR_OVERLAY_LAYER_NOT_FOUND', (l, s) => ({ ...l, upper: s.path('no') })],
  ['a missing work', 'ERR_OVERLAY_LAYER_NOT_FOUND', (l, s) => ({ ...l, work: s.path('no/work') })],
  ['a lower that is a file', 'ERR_OVERLAY_LAYER_NOT_DIRECTORY', (l, s) => ({ ...l, lower: s.file('file') })],
  ['an upper that is a file', 'ERR_OVERLAY_LAYER_NOT_DIRECTORY', (l, s) => ({ ...l, upper: s.file('file') })],
  [
    'a lower below a file',
    'ERR_OVERLAY_LAYER_NOT_DIRECTORY',
    (l, s) => ({ ...l, lower: join(s.file('file'), 'x') }),
  ],
  [
    'a lower that is a descriptor of a file',
    'ERR_OVERLAY_LAYER_NOT_DIRECTORY',
    (l, s) => ({ ...l, lower: fdOf(s.file('file')) }),
  ],
  ['a dangling symbolic link', 'ERR_OVERLAY_LAYER_NOT_FOUND', (l, s) => ({ ...l, lower: link(s, 'no') })],
  ['a loop of symbolic links', 'ERR_OVERLAY_LAYER_UNREACHABLE', (l, s) => ({ ...l, upper: link(s, 'link') })],
  [
    'a name of 256 bytes',
    'ERR_OVERLAY_LAYER_UNREACHABLE',
    (l, s) => ({ ...l, lower: s.path('x'.repeat(256)) }),
  ],
  [
    'a path of 4,096 bytes',
    'ERR_OVERLAY_LAYER_UNREACHABLE',
    (l) => ({ ...l, lower: l.lower + '/.'.repeat(2100) }),
  ],
  ['a descriptor that is closed', 'ERR_OVERLAY_LAYER_BAD_FD', (l) => ({ ...l, upper: { fd: 100_000 } })],
  ['proc as a lower', 'ERR_OVERLAY_LAYER_UNSUITABLE', (l) => ({ ...l, lower: '/proc' })],
]);

refuses('layers that lie badly to one another', [
  [
    'work on another file system',
    'ERR_OVERLAY_WORK_ON_OTHER_MOUNT',
    (l) => {
      mount('-t', 'tmpfs', 'x', l.work);
      return l;
    },
  ],
  [
    'work behind a bind mount of the same file system',
    'ERR_OVERLAY_WORK_ON_OTHER_MOUNT',
    (l, s) => {
      bind(s.directory('elsewhere'), l.work);
      return l;
    },
  ],
  ['work that is the upper', 'ERR_OVERLAY_WORK_NOT_SEPARATE', (l) => ({ ...l, work: l.upper })],
  [
    'work inside the upper',
    'ERR_OVERLAY_WORK_NOT_SEPARATE',
    (l, s) => ({ ...l, work: s.directory('upper/work') }),
  ],
  [
    'work around the upper',
    'ERR_OVERLAY_WORK_NOT_SEPARATE',
    (l, s) => ({ ...l, upper: s.directory('work/upper') }),
  ],
  [
    'an upper inside the lower',
    'ERR_OVERLAY_UPPER_IN_LOWER',
    (l, s) => ({ ...l, upper: s.directory('lower/a/upper') }),
  ],
  [
    'work inside the lower',
    'ERR_OVERLAY_UPPER_IN_LOWER',
    (l, s) => ({ ...l, work: s.directory('lower/work') }),
  ],
  [
    'an upper inside a data-only lower',
    'ERR_OVERLAY_UPPER_IN_LOWER',
    (l, s) => ({ ...l, dataOnlyLower: [s.directory('data')], upper: s.directory('data/a/upper') }),
  ],
  [
    'an upper inside the last of many lowers',
    'ERR_OVERLAY_UPPER_IN_LOWER',
    (l, s) => ({
      ...l,
      lower: [s.directory('a'), s.directory('b'), l.lower],
      upper: s.directory('lower/upper'),
    }),
  ],
  [
    'an upper inside a lower that is a bind mount',
    'ERR_OVERLAY_UPPER_IN_LOWER',
    (l, s) => {
      bind(l.lower, s.directory('shown'));
      return { ...l, lower: s.path('shown'), upper: s.directory('lower/upper') };
    },
  ],
  [
    'an upper inside a lower, the upper shown by a bind mount',
    'ERR_OVERLAY_UPPER_IN_LOWER',
    (l, s) => {
      s.directory('lower/box/upper');
      bind(s.directory('lower/box'), s.directory('shown'));
      return { ...l, upper: s.path('shown/upper'), work: s.directory('shown/work') };
    },
  ],
  [
    'a lower inside the upper',
    'ERR_OVERLAY_LOWER_IN_UPPER',
    (l, s) => ({ ...l, lower: s.directory('upper/lower') }),
  ],
  [
    'a lower inside work',
    'ERR_OVERLAY_LOWER_IN_UPPER',
    (l, s) => ({ ...l, lower: s.directory('work/lower') }),
  ],
  [
    'a lower inside the upper, through a bind mount',
    'ERR_OVERLAY_LOWER_IN_UPPER',
    (l, s) => {
      bind(s.directory('upper/lower'), s.directory('shown'));
      return { ...l, lower: s.path('shown') };
    },
  ],
  ['an upper that is the lower', 'ERR_OVERLAY_UPPER_IS_LOWER', (l) => ({ ...l, lower: l.upper })],
  ['work that is the lower', 'ERR_OVERLAY_UPPER_IS_LOWER', (l) => ({ ...l, lower: l.work })],
  ['the same lower twice', 'ERR_OVERLAY_LOWER_TWICE', (l) => ({ ...l, lower: [l.lower, l.lower] })],
  [
    'the same lower twice, by two names',
    'ERR_OVERLAY_LOWER_TWICE',
    (l, s) => ({ ...l, lower: [l.lower, link(s, 'lower')] }),
  ],
  [
    'the same lower twice, by a bind mount',
    'ERR_OVERLAY_LOWER_TWICE',
    (l, s) => {
      bind(l.lower, s.directory('shown'));
      return { ...l, lower: [l.lower, s.path('shown')] };
    },
  ],
  [
    'the same lower twice, once as data',
    'ERR_OVERLAY_LOWER_TWICE',
    (l) => ({ ...l, dataOnlyLower: [l.lower] }),
  ],
  [
    'a lower inside another',
    'ERR_OVERLAY_LOWER_IN_LOWER',
    (l, s) => ({ ...l, lower: [l.lower, s.directory('lower/a/b')] }),
  ],
  [
    'a lower around another',
    'ERR_OVERLAY_LOWER_IN_LOWER',
    (l, s) => ({ ...l, lower: [s.directory('lower/a'), l.lower] }),
  ],
  [
    'a lower inside another, through a bind mount',
    'ERR_OVERLAY_LOWER_IN_LOWER',
    (l, s) => {
      bind(s.directory('lower/a'), s.directory('shown'));
      return { ...l, lower: [l.lower, s.path('shown')] };
    },
  ],
]);

refuses('an upper that will not do', [
  [
    'a read-only mount',
    'ERR_OVERLAY_UPPER_READONLY',
    (l, s) => {
      bind(s.root, s.directory('box'), '-o', 'ro');
      return { ...l, upper: s.path('box/upper'), work: s.path('box/work'), lower: s.directory('box2') };
    },
  ],
  [
    'a read-only file system',
    'ERR_OVERLAY_UPPER_READONLY',
    (l, s) => {
      const box = s.directory('box');
      mount('-t', 'tmpfs', 'x', box);
      for (const name of ['upper', 'work']) mkdirSync(join(box, name));
      execFileSync('mount', ['-o', 'remount,ro', box]);
      return { ...l, upper: join(box, 'upper'), work: join(box, 'work') };
    },
  ],
  [
    'an overlay',
    'ERR_OVERLAY_UPPER_ON_OVERLAY',
    async (l, s) => {
      const on = await mounted({ lower: l.lower, scratch: true, target: s.directory('on') });
      for (const name of ['upper', 'work']) mkdirSync(join(on, name));
      return { ...l, lower: s.directory('other'), upper: join(on, 'upper'), work: join(on, 'work') };
    },
  ],
  [
    'a file system without attributes, strictly',
    'ERR_OVERLAY_UPPER_WITHOUT_XATTRS',
    (l, s) => ({ ...l, ...onRamfs(s), strict: true }),
  ],
  [
    'an upper that has been deleted',
    'ERR_OVERLAY_UPPER_DELETED',
    (l) => {
      const upper = fdOf(l.upper);
      rmdirSync(l.upper);
      return { ...l, upper };
    },
  ],
  [
    'work that has been deleted',
    'ERR_OVERLAY_UPPER_DELETED',
    (l) => {
      const work = fdOf(l.work);
      rmdirSync(l.work);
      return { ...l, work };
    },
  ],
  [
    'the marker of a volatile mount',
    'ERR_OVERLAY_VOLATILE_MARKER',
    async (l) => {
      await (await mountOverlay({ ...l, volatile: true })).unmount();
      return l;
    },
  ],
  [
    'the marker of a volatile mount, before another',
    'ERR_OVERLAY_VOLATILE_MARKER',
    async (l) => {
      await (await mountOverlay({ ...l, volatile: true })).unmount();
      return { ...l, volatile: true };
    },
  ],
  [
    'a work directory that cannot be cleaned',
    'ERR_OVERLAY_CAME_UP_READONLY',
    (l, s) => {
      s.file('work/work/a/b/c/d/file');
      return l;
    },
  ],
  [
    'an index made with another lower',
    'ERR_OVERLAY_INDEX_MISMATCH',
    async (l, s) => {
      await (await mountOverlay({ ...l, index: true })).unmount();
      return { ...l, lower: s.directory('other'), index: true };
    },
  ],
  [
    'a third level of nesting',
    'ERR_OVERLAY_NESTED_TOO_DEEP',
    async (l, s) => {
      const one = await mounted({ lower: l.lower, scratch: true, target: s.directory('one') });
      const two = await mounted({ lower: one, scratch: true, target: s.directory('two') });
      return { ...l, lower: two };
    },
  ],
]);

refuses('a target that will not do', [
  ['a missing one', 'ERR_OVERLAY_TARGET_NOT_FOUND', (l, s) => ({ ...l, target: s.path('no') })],
  [
    'a missing parent, with mkdirTarget',
    'ERR_OVERLAY_TARGET_NOT_FOUND',
    (l, s) => ({ ...l, target: s.path('no/no'), mkdirTarget: true }),
  ],
  ['a file', 'ERR_OVERLAY_TARGET_NOT_DIRECTORY', (l, s) => ({ ...l, target: s.file('file') })],
  [
    'a file, with mkdirTarget',
    'ERR_OVERLAY_TARGET_NOT_DIRECTORY',
    (l, s) => ({ ...l, target: s.file('file'), mkdirTarget: true }),
  ],
  [
    'a symbolic link to nothing, with mkdirTarget',
    'ERR_OVERLAY_TARGET_NOT_FOUND',
    (l, s) => {
      symlinkSync('nowhere', s.path('link'));
      return { ...l, target: s.path('link'), mkdirTarget: true };
    },
  ],
  [
    'a loop of symbolic links',
    'ERR_OVERLAY_TARGET_UNREACHABLE',
    (l, s) => ({ ...l, target: link(s, 'link') }),
  ],
]);

refuses('options that this kernel does not take', [
  [
    'an unknown one',
    'ERR_OVERLAY_OPTION_UNKNOWN',
    (l) => ({ ...l, kernelOptions: { no_such_option: 'on' } }),
  ],
  [
    'an unknown one, by mount(2)',
    'ERR_OVERLAY_OPTION_UNKNOWN',
    (l) => ({ ...l, kernelOptions: { no_such_option: 'on' }, mountApi: 'mount' }),
  ],
  ['a wrong value', 'ERR_OVERLAY_OPTION_VALUE', (l) => ({ ...l, kernelOptions: { fsync: 'sometimes' } })],
  [
    'a value for a flag',
    'ERR_OVERLAY_OPTION_VALUE',
    (l) => ({ ...l, kernelOptions: { default_permissions: 'on' } }),
  ],
  ['a flag for a value', 'ERR_OVERLAY_OPTION_VALUE', (l) => ({ ...l, kernelOptions: { fsync: true } })],
  ['a value of 256 bytes', 'ERR_OVERLAY_OPTION_TOO_LONG', (l) => ({ ...l, source: 'x'.repeat(256) })],
  [
    'metacopy and nfsExport',
    'ERR_OVERLAY_OPTIONS_CONFLICT',
    (l) => ({ ...l, metacopy: true, nfsExport: true }),
  ],
  ['a scratch beside an upper', 'ERR_OVERLAY_OPTIONS_CONTRADICT', (l) => ({ ...l, scratch: true })],
  [
    'a detached view by mount(2)',
    'ERR_OVERLAY_NO_DETACHED',
    ({ target: _, ...l }) => ({ ...l, mountApi: 'mount' }),
  ],
]);

describePrivileged('a mount is refused without permission', () => {
  const scratch = scratchOn();

  it('to mount: the message names the capability, and the way by a user namespace', async () => {
    const layers = scratch.layers();
    const error = await expectRefusal(scratch, 'ERR_OVERLAY_NO_PRIVILEGE', () => mountOverlay(layers), {
      asNobody: true,
    });
    expect(error.message).toMatch(/CAP_SYS_ADMIN.*user namespace/s);
  });

  it.each(['lower', 'upper', 'work', 'target'] as const)('to reach the %s', async (role) => {
    const layers = scratch.layers();
    const hidden = scratch.directory('hidden');
    execFileSync('chmod', ['0700', hidden]);
    const options = { ...layers, [role]: scratch.directory(`hidden/${role}`) };
    const code = role === 'target' ? 'ERR_OVERLAY_TARGET_UNREACHABLE' : 'ERR_OVERLAY_LAYER_NOT_PERMITTED';
    const error = await expectRefusal(scratch, code, () => mountOverlay(options), { asNobody: true });
    expect(error).toMatchObject({ errno: -os.errno.EACCES, path: options[role] });
  });

  it('to unmount', async () => {
    const { lower, target } = scratch.layers();
    const path = await mounted({ lower, scratch: true, target });
    await expectRefusal(scratch, 'ERR_OVERLAY_NO_PRIVILEGE', () => unmount(path), { asNobody: true });
  });

  it('by a seccomp filter, which is told from a lack of privilege', async () => {
    const { lower, target } = scratch.layers();
    const code = await runChild<string>(
      `const [lower, target] = process.argv.slice(-2);
       await overlayfs.mountOverlay({ lower, scratch: true, target }).then(() => report('mounted'), ({ code }) => report(code));`,
      { through: ['python3', '-c', seccomp], args: [lower, target] },
    );
    expect(code).toBe('ERR_OVERLAY_SECCOMP');
  });
});

describeOn(fileSystems, 'a create that fails half-way', (scratch) => {
  it('leaves neither work/work nor attributes on the upper', async () => {
    const layers = scratch.layers();
    const options = { ...layers, lower: [layers.lower, scratch.directory('lower/inside')], index: true };
    await expectRefusal(scratch, 'ERR_OVERLAY_LOWER_IN_LOWER', () => mountOverlay(options));
    await expectRefusal(scratch, 'ERR_OVERLAY_LOWER_IN_LOWER', () =>
      mountOverlay({ ...options, mountApi: 'mount' }),
    );
  });

  it('leaves what another mount has made there', async () => {
    const layers = scratch.layers();
    await (await mountOverlay({ ...layers, index: true })).unmount();
    const options = { ...layers, lower: [layers.lower, scratch.directory('lower/inside')] };
    await expectRefusal(scratch, 'ERR_OVERLAY_LOWER_IN_LOWER', () => mountOverlay(options));
  });

  it('made its target, and removes it', async () => {
    const { target: _, ...layers } = scratch.layers();
    const options = {
      ...layers,
      lower: [layers.lower, layers.lower],
      target: scratch.path('new'),
      mkdirTarget: true,
    };
    await expectRefusal(scratch, 'ERR_OVERLAY_LOWER_TWICE', () => mountOverlay(options));
  });
});

describe('a wrong type, key or byte', () => {
  it.each<[string, object]>([
    ['a NUL byte in a lower', { lower: '/a\0b' }],
    ['an unknown option', { lower: '/a', upperdir: '/b' }],
    ['an unknown mount flag', { lower: '/a', mountFlags: { sync: true } }],
    ['a word that is no word of the option', { lower: '/a', redirectDir: 'off' }],
  ])('is a TypeError from mountOverlay() and planOverlay() alike: %s', async (_, options) => {
    const typeError = expect.objectContaining({ name: 'TypeError', code: 'ERR_INVALID_ARG_VALUE' });
    await expect(mountOverlay(options as OverlayOptions)).rejects.toThrow(typeError);
    await expect(planOverlay(options as OverlayOptions)).rejects.toThrow(typeError);
  });
});

describePrivileged('a combination that we refuse ourselves', () => {
  const scratch = scratchOn();

  it.each([
    'metacopy=on,redirect_dir=nofollow',
    'metacopy=on,redirect_dir=follow',
    'nfs_export=on,metacopy=on',
    'nfs_export=on,index=off',
    'userxattr,metacopy=on',
    'userxattr,redirect_dir=on',
    'userxattr,redirect_dir=follow',
  ])('is one that the kernel refuses too: %s', (options) => {
    const { lower, upper, work, target } = scratch.layers();
    const layers = `lowerdir=${lower},upperdir=${upper},workdir=${work}`;
    const byMount8 = () =>
      execFileSync('mount', ['-t', 'overlay', '-o', `${layers},${options}`, 'foreign', target], {
        stdio: 'pipe',
      });
    expect(byMount8).toThrow(/wrong fs type, bad option/);
  });
});

describePrivileged('what the kernel ignores or lacks in silence', () => {
  const scratch = scratchOn();

  it.each<[string, Partial<OverlayOptions>]>([
    ['index', { index: true }],
    ['volatile', { volatile: true }],
    ["uuid: 'on'", { uuid: 'on' }],
    ['nfsExport', { nfsExport: true }],
  ])('is reported: %s without an upper', async (option, options) => {
    const { lower, target } = scratch.layers();
    await using overlay = await mountOverlay({ lower: [lower, scratch.directory('b')], target, ...options });
    expect(overlay.report.degradations.map(({ detail }) => detail).join()).toContain(option);
  });

  it('is reported: an upper without extended attributes', async () => {
    const layers = { ...scratch.layers(), ...onRamfs(scratch) };
    await using overlay = await mountOverlay(layers);
    expect(overlay.report.degradations).toMatchObject([
      { code: 'WARN_OVERLAY_UPPER_WITHOUT_XATTRS', path: layers.upper, fix: expect.stringMatching(/./) },
    ]);
  });

  it('is not reported where there is nothing of the kind', async () => {
    await using overlay = await mountOverlay(scratch.layers());
    expect(overlay.report).toMatchObject({
      fallbacks: [],
      degradations: [],
      unverified: [],
      propagated: false,
    });
  });
});

describePrivileged('an error', () => {
  const scratch = scratchOn();

  it('has the line of the caller in its stack', async () => {
    const layers = scratch.layers();
    const error = await expectRefusal(scratch, 'ERR_OVERLAY_LAYER_NOT_FOUND', async function theCaller() {
      await mountOverlay({ ...layers, lower: '/nowhere' });
    });
    expect(error.stack).toContain('theCaller');
  });

  it('carries what the kernel said, the call, the number and the path', async () => {
    const layers = scratch.layers();
    const error = await expectRefusal(scratch, 'ERR_OVERLAY_OPTION_VALUE', () =>
      mountOverlay({ ...layers, kernelOptions: { fsync: 'sometimes' } }),
    );
    expect(error).toMatchObject({
      errno: -22,
      syscall: 'fsconfig',
      kernel: expect.stringContaining("Bad value for 'fsync'"),
    });
    const missing = await expectRefusal(scratch, 'ERR_OVERLAY_LAYER_NOT_FOUND', () =>
      mountOverlay({ ...layers, work: scratch.path('no') }),
    );
    expect(missing).toMatchObject({
      errno: -2,
      syscall: 'openat',
      path: scratch.path('no'),
      cause: expect.any(Error),
    });
  });

  it('tells everything that is wrong, not the first thing alone', async () => {
    const layers = scratch.layers();
    const file = scratch.file('file');
    const error = await expectRefusal(scratch, 'ERR_OVERLAY_LAYER_NOT_FOUND', () =>
      mountOverlay({
        ...layers,
        lower: [scratch.path('no'), file],
        upper: scratch.path('neither'),
      }),
    );
    expect(new Set(error.findings.map(({ code, path }) => `${code} ${path}`))).toEqual(
      new Set([
        `ERR_OVERLAY_LAYER_NOT_FOUND ${scratch.path('no')}`,
        `ERR_OVERLAY_LAYER_NOT_DIRECTORY ${scratch.path('file')}`,
        `ERR_OVERLAY_LAYER_NOT_FOUND ${scratch.path('neither')}`,
      ]),
    );
  });
});

describePrivileged('a detached view', () => {
  const scratch = scratchOn();

  it.each<[string, string, (scratch: Scratch) => string]>([
    ['a missing one', 'ERR_OVERLAY_TARGET_NOT_FOUND', (s) => s.path('no')],
    ['a file', 'ERR_OVERLAY_TARGET_NOT_DIRECTORY', (s) => s.file('file')],
    ['a loop of symbolic links', 'ERR_OVERLAY_TARGET_UNREACHABLE', (s) => link(s, 'link')],
    ['an empty path', 'ERR_OVERLAY_EMPTY_PATH', () => ''],
  ])('is not attached to a target that will not do: %s', async (_, code, target) => {
    const path = target(scratch);
    await using view = await mountOverlay({ lower: scratch.layers().lower, scratch: true });
    await expectRefusal(scratch, code, () => view.attach(path));
    expect(view.fd).toBeGreaterThan(0);
  });

  it('is attached once', async () => {
    const { lower, target } = scratch.layers();
    await using view = await mountOverlay({ lower, scratch: true });
    await view.attach(target);
    await expectRefusal(scratch, 'ERR_OVERLAY_ALREADY_ATTACHED', () => view.attach(scratch.path('upper')));
  });
});

describePrivileged('unmounting is refused', () => {
  const scratch = scratchOn();

  it('where another mount covers the overlay, and done when that is gone', async () => {
    const layers = scratch.layers();
    const overlay = await mountOverlay(layers);
    execFileSync('mount', ['-t', 'tmpfs', 'cover', layers.target]);
    await expectRefusal(scratch, 'ERR_OVERLAY_TARGET_COVERED', () => overlay.unmount());
    execFileSync('umount', [layers.target]);
    await overlay.unmount();
  });

  it.each<[string, (scratch: Scratch) => string]>([
    ['where nothing is mounted', (s) => s.directory('plain')],
    [
      'where something else is mounted',
      (s) => {
        mount('-t', 'tmpfs', 'x', s.directory('tmpfs'));
        return s.path('tmpfs');
      },
    ],
    ['where nothing is at all', (s) => s.path('no')],
  ])('%s', async (_, target) => {
    const path = target(scratch);
    await expectRefusal(scratch, 'ERR_OVERLAY_NOT_AN_OVERLAY', () => unmount(path));
  });

  it('from inside an overlay, at a directory that is no mount point', async () => {
    const { lower, target } = scratch.layers();
    mkdirSync(join(lower, 'folder'));
    await mounted({ lower, scratch: true, target });
    await expectRefusal(scratch, 'ERR_OVERLAY_NOT_AN_OVERLAY', () => unmount(join(target, 'folder')));
  });

  it('while a file is open in it', async () => {
    const { lower, target } = scratch.layers();
    await mounted({ lower, scratch: true, target });
    fdOf(join(target, 'hello'));
    await expectRefusal(scratch, 'ERR_OVERLAY_BUSY', () => unmount(target, { timeout: 50 }));
  });
});

function link(scratch: Scratch, to: string): string {
  const path = scratch.path('link');
  symlinkSync(scratch.path(to), path);
  return path;
}

function onRamfs(scratch: Scratch): Pick<Layers, 'upper' | 'work'> {
  const box = scratch.directory('ramfs');
  mount('-t', 'ramfs', 'x', box);
  for (const name of ['upper', 'work']) mkdirSync(join(box, name));
  return { upper: join(box, 'upper'), work: join(box, 'work') };
}

// A filter that answers EPERM to fsopen(2) and mount(2), as a container runtime's does, around the command that follows.
const seccomp = `
import ctypes, os, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
numbers = [430, {'x86_64': 165, 'aarch64': 40}[os.uname().machine]]
load, equal, refuse, allow = (0x20, 0, 0, 0), 0x15, (6, 0, 0, 0x00050001), (6, 0, 0, 0x7fff0000)
filter = [load, (equal, 1, 0, numbers[0]), (equal, 0, 1, numbers[1]), refuse, allow]
code = b''.join(struct.pack('HBBI', *one) for one in filter)
buffer = ctypes.create_string_buffer(code)
program = struct.pack('HxxxxxxP', len(filter), ctypes.addressof(buffer))
for call in [(38, 1, 0, 0, 0), (22, 2, ctypes.c_char_p(program), 0, 0)]:
    if libc.prctl(*call) != 0: raise OSError(ctypes.get_errno(), 'prctl')
os.execvp(sys.argv[1], sys.argv[1:])
`;
