// @module-tag vm
/**
 * Every error code can be provoked, and docs/errors.md is the table of all of them. Really, but for what no one can
 * arrange: limits, races, and kernels other than this one come from the fault plan.
 */
import { execFileSync } from 'node:child_process';
import {
  appendFileSync,
  chmodSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
  symlinkSync,
} from 'node:fs';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { afterEach, describe, expect, it, vi } from 'vitest';
import {
  applyChanges,
  type Change,
  changes,
  copyUp,
  createWhiteout,
  type ErrorCode,
  errorCodes,
  type LayerStack,
  listOverlays,
  mergedView,
  mountOverlay,
  type OverlayOptions,
  openLayers,
  removeWhiteout,
  setOpaque,
  unmount,
} from '../../lib/index.ts';
import { kernelFeatures } from '../../lib/inspect/kernel.ts';
import { importing, moduleUrl, runChild, waitingShell } from '../support/child.ts';
import { mount, run, umount } from '../support/commands.ts';
import { openDirectories, openings } from '../support/directories.ts';
import { creating, type Fault, plan } from '../support/faults.ts';
import { describePrivileged } from '../support/needs.ts';
import { afterThisTest, type Layers, type Scratch, scratchOn } from '../support/scratch.ts';
import { storeErrors } from '../support/store-errors.ts';
import { setXattr } from '../support/xattr.ts';

/** Fails with the code in question. */
type Provoke = (layers: Layers, scratch: Scratch) => unknown;

const mounting =
  (options: (layers: Layers, scratch: Scratch) => OverlayOptions): Provoke =>
  (layers, scratch) =>
    mountOverlay(options(layers, scratch));

async function mounted(options: OverlayOptions) {
  const overlay = await mountOverlay(options);
  afterThisTest(() => overlay.unmount());
  return overlay;
}

function mountForThisTest(...args: string[]): string {
  const point = args.at(-1) ?? '';
  mount(...args);
  afterThisTest(() => umount(point));
  return point;
}

function loop({ path }: Scratch): string {
  symlinkSync('loop', path('loop'));
  return path('loop');
}

async function asNobody(attempt: () => Promise<unknown>): Promise<unknown> {
  process.seteuid?.(65534);
  return attempt().finally(() => process.seteuid?.(0));
}

async function looking({ lower, upper, work, ...options }: LayerStack, path: string): Promise<unknown> {
  const view = await mergedView({ lower, upper, work, index: options.index ?? false } as LayerStack);
  return view.stat(path).finally(() => view.close());
}

const really: Partial<Record<ErrorCode, Provoke>> = {
  ...storeErrors,
  ERR_OVERLAY_UNSUPPORTED_PLATFORM: async () => {
    const { platform } = process;
    Object.defineProperty(process, 'platform', { value: 'darwin' });
    afterThisTest(() => Object.defineProperty(process, 'platform', { value: platform }));
    return (await freshLibrary()).mountOverlay({ lower: '/a', scratch: true });
  },
  ERR_OVERLAY_NATIVE_NOT_FOUND: async () => {
    vi.stubEnv('OVERLAYFS_NATIVE', '/nowhere/overlayfs.node');
    return (await freshLibrary()).mountOverlay({ lower: '/a', scratch: true });
  },
  ERR_OVERLAY_NO_PRIVILEGE: (l) => asNobody(() => mountOverlay(l)),
  ERR_OVERLAY_HAS_INDEX: ({ target, ...layers }) => {
    mkdirSync(join(layers.work, 'index'));
    return copyUp(layers, 'hello');
  },
  ERR_OVERLAY_XATTR_HIDDEN: (l) => asNobody(() => openLayers({ lower: l.lower })),
  ERR_OVERLAY_APPLY_CONFLICT: async (l, s) => applyChanges(await someChanges(l, s), s.directory('empty')),
  ERR_OVERLAY_TARGET_OVERLAPS: async (l, s) => applyChanges(await someChanges(l, s), l.upper),
  ERR_OVERLAY_TARGET_IN_USE: async (l, s) => {
    const all = await someChanges(l, s);
    const target = s.directory('used');
    await using _ = await mountOverlay({ lower: target, scratch: true });
    return await applyChanges(all, target);
  },
  ERR_OVERLAY_RESERVED_NAME: async (l, s) => {
    s.file('own/#overlayfs-applied/mine');
    return applyChanges(await someChanges(l, s), s.path('own'));
  },
  ERR_OVERLAY_TARGET_ON_OVERLAY: async (l, s) => {
    s.file('lower/gone/file');
    await createWhiteout(l.upper, 'gone');
    const all = await someChanges(l, s);
    execFileSync('cp', ['-a', l.lower, s.path('copy')]);
    await using overlay = await mountOverlay({ lower: s.path('copy'), scratch: true, target: l.target });
    return await applyChanges(all, overlay.path());
  },
  ERR_OVERLAY_FOREIGN_LAYER: async (l, s) => {
    s.file('upper/.wh.hello');
    return someChanges(l, s);
  },
  ERR_OVERLAY_STREAM_CLOSED: async (l, s) => {
    s.file('upper/new');
    const stream = changes({ lower: l.lower, upper: l.upper });
    const all: Change[] = [];
    for await (const change of stream) all.push(change);
    await stream.close();
    return all.find(({ path }) => path === 'new')?.source?.open();
  },
  ERR_OVERLAY_VIEW_CLOSED: async (l) => {
    const view = await mergedView({ lower: l.lower });
    await view.close();
    return view.stat('hello');
  },
  ERR_OVERLAY_LAYERS_UNKNOWN: async (_, scratch) => {
    run(
      ['mount', '-i', '-t', 'overlay', '-o', 'lowerdir=lower,upperdir=upper,workdir=work', 'x', 'merged'],
      scratch.root,
    );
    afterThisTest(() => umount(scratch.path('merged')));
    const [listed] = (await listOverlays()).filter(({ target }) => target === scratch.path('merged'));
    return mergedView(listed as NonNullable<typeof listed>);
  },
  ERR_OVERLAY_WORK_NEEDED: ({ lower, upper }) => mergedView({ lower, upper, index: true }),
  ERR_OVERLAY_REDIRECT_REFUSED: async (l, scratch) => {
    await setXattr(scratch.directory('upper/d'), 'trusted.overlay.redirect', 'a/b');
    return looking(l, 'd');
  },
  ERR_OVERLAY_METACOPY_REFUSED: async (l, scratch) => {
    await setXattr(scratch.file('upper/f'), 'trusted.overlay.metacopy');
    return looking(l, 'f');
  },
  ERR_OVERLAY_LAYERS_OVERLAP: (l, scratch) =>
    looking({ ...l, upper: scratch.directory('lower/upper') }, 'upper'),
  ERR_OVERLAY_INDEX_REFUSED: async (l, scratch) => {
    linkSync(scratch.path('lower/hello'), scratch.path('lower/link'));
    {
      await using overlay = await mountOverlay({ ...l, index: true });
      appendFileSync(overlay.path('hello'), '!');
    }
    const [name = ''] = readdirSync(scratch.path('work/index'));
    rmSync(scratch.path('work/index', name));
    mkdirSync(scratch.path('work/index', name));
    return looking({ ...l, index: true }, 'link');
  },
  ERR_OVERLAY_NO_DETACHED: mounting(({ target: _, ...l }) => ({ ...l, mountApi: 'mount' })),
  ERR_OVERLAY_OPTION_UNKNOWN: mounting((l) => ({ ...l, kernelOptions: { no_such_option: true } })),
  ERR_OVERLAY_OPTION_VALUE: mounting((l) => ({ ...l, kernelOptions: { default_permissions: 'sometimes' } })),
  ERR_OVERLAY_OPTION_TOO_LONG: mounting((l) => ({ ...l, source: 'x'.repeat(256) })),
  ERR_OVERLAY_OPTIONS_CONFLICT: mounting((l) => ({ ...l, nfsExport: true, metacopy: true })),
  ERR_OVERLAY_OPTIONS_CONTRADICT: mounting((l) => ({ ...l, scratch: true })),
  ERR_OVERLAY_EMPTY_PATH: mounting((l) => ({ ...l, lower: '' })),
  ERR_OVERLAY_NO_LOWER: mounting((l) => ({ ...l, lower: [] })),
  ERR_OVERLAY_NO_REGULAR_LOWER: mounting((l) => ({ ...l, lower: [], dataOnlyLower: [l.lower] })),
  ERR_OVERLAY_SINGLE_LOWER: mounting(({ lower, target }) => ({ lower, target })),
  ERR_OVERLAY_TOO_MANY_LOWERS: mounting((l) => ({ ...l, lower: Array<string>(501).fill(l.lower) })),
  ERR_OVERLAY_WORK_MISSING: mounting(({ work: _, ...l }) => l),
  ERR_OVERLAY_UPPER_MISSING: mounting(({ upper: _, ...l }) => l),
  ERR_OVERLAY_LAYER_NOT_FOUND: mounting((l, s) => ({ ...l, lower: s.path('no') })),
  ERR_OVERLAY_LAYER_NOT_DIRECTORY: mounting((l, s) => ({ ...l, lower: s.file('file') })),
  ERR_OVERLAY_LAYER_NOT_PERMITTED: (l, s) => {
    for (const path of [s.directory('hidden/lower'), s.path('hidden')]) chmodSync(path, 0o700);
    return asNobody(() => mountOverlay({ ...l, lower: s.path('hidden/lower') }));
  },
  ERR_OVERLAY_LAYER_BAD_FD: mounting((l) => ({ ...l, upper: { fd: 100_000 } })),
  ERR_OVERLAY_LAYER_UNREACHABLE: mounting((l, s) => ({ ...l, lower: loop(s) })),
  ERR_OVERLAY_LAYER_UNSUITABLE: mounting((l) => ({ ...l, lower: '/proc' })),
  ERR_OVERLAY_NESTED_TOO_DEEP: async (l, s) => {
    const one = await mounted({ lower: l.lower, scratch: true, target: s.directory('one') });
    const two = await mounted({ lower: one.path(), scratch: true, target: s.directory('two') });
    return mountOverlay({ ...l, lower: two.path() });
  },
  ERR_OVERLAY_UPPER_DELETED: async (l) => {
    using open = openDirectories(openings.O_RDONLY, l.upper);
    rmdirSync(l.upper);
    return await mountOverlay({ ...l, upper: open.refs[0] as { fd: number } });
  },
  ERR_OVERLAY_UPPER_IN_LOWER: mounting((l, s) => ({ ...l, upper: s.directory('lower/upper') })),
  ERR_OVERLAY_LOWER_IN_UPPER: mounting((l, s) => ({ ...l, lower: s.directory('upper/lower') })),
  ERR_OVERLAY_UPPER_IS_LOWER: mounting((l) => ({ ...l, lower: l.upper })),
  ERR_OVERLAY_LOWER_TWICE: mounting((l) => ({ ...l, lower: [l.lower, l.lower] })),
  ERR_OVERLAY_LOWER_IN_LOWER: mounting((l, s) => ({ ...l, lower: [l.lower, s.directory('lower/inside')] })),
  ERR_OVERLAY_WORK_NOT_SEPARATE: mounting((l) => ({ ...l, work: l.upper })),
  ERR_OVERLAY_WORK_ON_OTHER_MOUNT: mounting((l) => ({
    ...l,
    work: mountForThisTest('-t', 'tmpfs', 'x', l.work),
  })),
  ERR_OVERLAY_UPPER_READONLY: mounting((l, s) => {
    const box = mountForThisTest('--bind', '-o', 'ro', s.root, s.directory('box'));
    return { ...l, lower: s.directory('other'), upper: join(box, 'upper'), work: join(box, 'work') };
  }),
  ERR_OVERLAY_UPPER_ON_OVERLAY: async (l, s) => {
    const on = await mounted({ lower: l.lower, scratch: true, target: s.directory('on') });
    for (const name of ['upper', 'work']) mkdirSync(on.path(name));
    return mountOverlay({
      ...l,
      lower: s.directory('other'),
      upper: on.path('upper'),
      work: on.path('work'),
    });
  },
  ERR_OVERLAY_UPPER_WITHOUT_XATTRS: mounting((l, s) => {
    const box = mountForThisTest('-t', 'ramfs', 'x', s.directory('box'));
    return {
      ...l,
      upper: s.directory('box/upper'),
      work: s.directory(join(box, 'work').slice(s.root.length)),
      strict: true,
    };
  }),
  ERR_OVERLAY_UPPER_IN_USE: async (l, s) => {
    await mounted(l);
    return mountOverlay({ ...s.layers('fresh'), upper: l.upper, work: l.work });
  },
  ERR_OVERLAY_WORK_IN_USE: async (l, s) => {
    await mounted(l);
    return mountOverlay({ ...s.layers('fresh'), work: l.work });
  },
  ERR_OVERLAY_WORK_LOCKED: async (l) => {
    await using _ = await waitingShell(`exec 9<${l.work}; flock --exclusive 9`);
    return await mountOverlay(l);
  },
  ERR_OVERLAY_VOLATILE_MARKER: async (l) => {
    await (await mountOverlay({ ...l, volatile: true })).unmount();
    return mountOverlay(l);
  },
  ERR_OVERLAY_INDEX_MISMATCH: async (l, s) => {
    await (await mountOverlay({ ...l, index: true })).unmount();
    return mountOverlay({ ...l, lower: s.directory('other'), index: true });
  },
  ERR_OVERLAY_CAME_UP_READONLY: mounting((l, s) => {
    s.file('work/work/a/b/c/d/file');
    return l;
  }),
  ERR_OVERLAY_TARGET_NOT_FOUND: mounting((l, s) => ({ ...l, target: s.path('no') })),
  ERR_OVERLAY_TARGET_NOT_DIRECTORY: mounting((l, s) => ({ ...l, target: s.file('file') })),
  ERR_OVERLAY_TARGET_UNREACHABLE: mounting((l, s) => ({ ...l, target: loop(s) })),
  ERR_OVERLAY_SIGNALS_IN_WORKER: async () => {
    const mountThere = `${importing('index')}
      .then(({ mountOverlay }) => mountOverlay({ lower: '/a', scratch: true, unmountOnSignals: ['SIGTERM'] }))
      .catch(({ code }) => require('node:worker_threads').parentPort.postMessage({ code }));`;
    const worker = new Worker(mountThere, { eval: true });
    const error = await new Promise((resolve, reject) =>
      worker.once('message', resolve).once('error', reject),
    );
    await worker.terminate();
    throw error;
  },
  ERR_OVERLAY_TARGET_COVERED: async (l) => {
    const overlay = await mounted(l);
    mountForThisTest('-t', 'tmpfs', 'cover', l.target);
    return overlay.unmount();
  },
  ERR_OVERLAY_NOT_AN_OVERLAY: (_, s) => unmount(s.root),
  ERR_OVERLAY_BUSY: async (l) => {
    await mounted(l);
    using _ = openDirectories(openings.O_RDONLY, l.target);
    return await unmount(l.target, { timeout: 20 });
  },
  ERR_OVERLAY_REMOUNT_FAILED: async ({ lower }, s) =>
    (await mounted({ lower: [lower, s.directory('b')] })).remount({ readonly: false }),
  ERR_OVERLAY_NOT_MOUNTED: async (l) => {
    const overlay = await mountOverlay(l);
    await overlay.unmount();
    return overlay.openRoot();
  },
  ERR_OVERLAY_ALREADY_ATTACHED: async (l) => (await mounted(l)).attach(l.lower),
  ERR_OVERLAY_PATH_ESCAPES: async (l) => (await mounted(l)).path('..'),
  ERR_OVERLAY_PATH_NOT_UTF8: async (l) => (await mounted(l)).path(Buffer.from([0xff])),
  ERR_OVERLAY_WHITEOUT_IN_OPAQUE: async (l, s) => {
    s.directory('upper/dir');
    await setOpaque(l.upper, 'dir');
    return createWhiteout(l.upper, 'dir/name');
  },
  ERR_OVERLAY_WHITEOUT_ON_OVERLAY: async (l) => createWhiteout((await mounted(l)).path(), 'name'),
  ERR_OVERLAY_NOT_A_WHITEOUT: (l) => removeWhiteout(l.lower, 'hello'),
  ERR_OVERLAY_LAYER_ROOT: (l) => setOpaque(l.upper, '/'),
  ERR_OVERLAY_LAYER_WITHOUT_XATTRS: (_, s) =>
    createWhiteout(mountForThisTest('-t', 'ramfs', 'x', s.directory('box')), 'name', { form: 'xattr' }),
  ERR_OVERLAY_RENAME_REFUSED: async (l, s) => {
    s.file('lower/directory/file');
    const overlay = await mounted(l);
    await using locked = await waitingShell(`exec 9< '${overlay.path('directory')}'; flock -x 9`);
    expect(locked.pid).toBeGreaterThan(0);
    await overlay.rename('directory', 'renamed');
  },
  ERR_OVERLAY_EXITING: async () => {
    throw await runChild(`const { binding } = await import(${JSON.stringify(moduleUrl('addon'))});
      await overlayfs.planOverlay({ lower: ['/a', '/b'] });
      binding().closeGate();
      await overlayfs.mountOverlay({ lower: '/usr', scratch: true }).catch(({ code }) => report({ code }));`);
  },
};

const failing =
  (fault: Fault | readonly Fault[], options: Partial<OverlayOptions> = { checkInUse: false }): Provoke =>
  (layers) => {
    plan(...[fault].flat());
    return mountOverlay({ ...layers, ...options });
  };
const everywhere = (error: Fault['error']): Fault[] => ['fsopen', 'mount'].map((call) => ({ call, error }));

const throughFaults: Partial<Record<ErrorCode, Provoke>> = {
  ERR_OVERLAY_NOT_IN_KERNEL: failing(everywhere('ENODEV')),
  ERR_OVERLAY_MOUNT_API_UNAVAILABLE: async (l) => {
    plan({ call: 'fsopen', error: 'ENOSYS' });
    return (await freshLibrary()).mountOverlay({ ...l, mountApi: 'fsconfig' });
  },
  ERR_OVERLAY_SECCOMP: failing(everywhere('EPERM')),
  ERR_OVERLAY_NO_SPACE: failing({ call: creating, error: 'ENOSPC' }),
  ERR_OVERLAY_NO_MEMORY: failing({ call: creating, error: 'ENOMEM' }),
  ERR_OVERLAY_TOO_MANY_FILES: failing({ call: 'openat', error: 'EMFILE' }),
  ERR_OVERLAY_MOUNT_FAILED: failing({ call: creating, error: 'EIO' }),
  ERR_OVERLAY_UNMOUNT_FAILED: async (l) => {
    const overlay = await mounted(l);
    plan({ call: 'umount2', error: 'EIO', times: 1 });
    return overlay.unmount();
  },
  ERR_OVERLAY_UNREACHABLE: async () => {
    plan({ call: 'listmount', error: 'EIO' });
    return listOverlays();
  },
  ERR_OVERLAY_RENAME_CHANGED: async (l, s) => {
    s.file('lower/directory/file');
    const overlay = await mounted(l);
    // What the kernel says of a file that has been removed behind its back.
    plan({ call: 'faccessat', error: 'ESTALE', times: 1 });
    return overlay.rename('directory', 'renamed');
  },
  ERR_OVERLAY_RENAME_HALF_DONE: async (l, s) => {
    s.file('lower/directory/file');
    const overlay = await mounted(l);
    plan({ call: 'unlinkat', error: 'EIO', times: 1 });
    return overlay.rename('directory', 'renamed');
  },
  ERR_OVERLAY_APPLY_HALF_DONE: async (l, s) => {
    const all = await someChanges(l, s);
    const copy = s.directory('copy');
    s.file('copy/hello', 'from the lower');
    plan({ call: 'renameat2', error: 'EIO', skip: 1 });
    return applyChanges(all, copy, { onConflict: () => 'apply' });
  },
  ERR_OVERLAY_SYNC_FAILED: async (l) => {
    const overlay = await mountOverlay({ ...l, volatile: true });
    plan({ call: 'syncfs', error: 'EIO' });
    return overlay.unmount({ syncVolatile: true });
  },
};

/** All changes of an upper that has one new file and one changed one. */
async function someChanges(l: Layers, s: Scratch) {
  s.file('upper/new', 'new');
  s.file('upper/hello', 'changed');
  const stream = changes({ lower: l.lower, upper: l.upper });
  afterThisTest(() => stream.close());
  const all: Change[] = [];
  for await (const change of stream) all.push(change);
  return all;
}

const codes = Object.keys(errorCodes) as ErrorCode[];
const otherKernels = ['ERR_OVERLAY_NOT_IN_KERNEL', 'ERR_OVERLAY_MOUNT_API_UNAVAILABLE'];

describePrivileged('the error code', () => {
  const scratch = scratchOn();
  afterEach(() => {
    vi.unstubAllEnvs();
  });

  it.each(codes)('%s can be provoked', async (code) => {
    const provoke = really[code] ?? throughFaults[code];
    if (provoke === undefined) throw new Error(`nothing here provokes ${code}: remove it, or provoke it`);
    await kernelFeatures(); // as they are, before anything fails
    const layers = scratch.layers();
    await expect((async () => provoke(layers, scratch))()).rejects.toMatchObject({ code });
  });
});

describe('once the process is ending', { tags: ['slow'] }, () => {
  it('every function says so, even the first that is called', async () => {
    const said = await runChild(`const { binding } = await import(${JSON.stringify(moduleUrl('addon'))});
      binding().closeGate();
      const calls = [() => overlayfs.mountOverlay({ lower: '/usr', scratch: true }), overlayfs.listOverlays];
      report(await Promise.all(calls.map((call) => call().catch(({ code }) => code ?? 'no code'))));`);
    expect(said).toEqual(['ERR_OVERLAY_EXITING', 'ERR_OVERLAY_EXITING']);
  });
});

describe('the fault plan', () => {
  it('stands in only for what is unpredictable, and for other kernels', () => {
    for (const code of Object.keys(throughFaults) as ErrorCode[]) {
      if (!otherKernels.includes(code)) expect([code, errorCodes[code]]).toEqual([code, 'unpredictable']);
    }
  });
});

describe('docs/errors.md', () => {
  const root = new URL('../../', import.meta.url);
  const tables = readFileSync(new URL('docs/errors.md', root), 'utf8');
  const rows = [...tables.matchAll(/^\| `((?:ERR|WARN)_\w+)` \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$/gm)];

  it('has a line for each code, in their order, with its kind, what it means and what to do', () => {
    const errors = rows.filter(([, code]) => code?.startsWith('ERR_'));
    expect(errors.map(([, code, kind]) => [code, kind])).toEqual(Object.entries(errorCodes));
    for (const [, , , meaning, remedy] of rows)
      expect([meaning, remedy]).toEqual([expect.stringMatching(/\.$/), expect.stringMatching(/\.$/)]);
  });

  it('has a line for each warning, and for no other', () => {
    const documented = rows.flatMap(([, code = '']) => (code.startsWith('WARN_') ? [code] : []));
    const sources = readdirSync(new URL('lib', root), { recursive: true, encoding: 'utf8' })
      .filter((file) => file.endsWith('.ts'))
      .map((file) => readFileSync(new URL(`lib/${file}`, root), 'utf8'));
    const used = new Set(sources.flatMap((text) => text.match(/WARN_OVERLAY_[A-Z0-9_]+[A-Z0-9]/g) ?? []));
    expect(documented.sort()).toEqual([...used].sort());
  });
});

/** The package as if it were loaded for the first time. */
async function freshLibrary(): Promise<typeof import('../../lib/index.ts')> {
  vi.resetModules();
  return import('../../lib/index.ts');
}
