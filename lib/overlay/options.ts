/**
 * What a caller may ask of a mount: the option object, closed, checked and with its paths as absolute bytes.
 * @module
 */
import { constants as os } from 'node:os';
import {
  abortSignal,
  boolean,
  type Check,
  closed,
  directoryRefs,
  oneOf,
  record,
  string,
} from '../arguments.ts';
import { invalidArgument } from '../errors.ts';
import type { NativeRef, Propagation } from '../native/binding.ts';
import { absolutePath, directoryRef } from '../paths.ts';
import type { LayerStack, PathLike } from '../types.ts';

/** Flags of the mount itself (not of its superblock), as mount(8) names them. */
export interface MountFlags {
  readonly noexec?: boolean;
  readonly nosuid?: boolean;
  readonly nodev?: boolean;
  readonly noatime?: boolean;
  readonly nodiratime?: boolean;
  readonly relatime?: boolean;
  readonly strictatime?: boolean;
}

/**
 * What {@link mountOverlay} takes. Only `lower` is required; options that are not given have the defaults named here,
 * whatever the kernel module's own defaults are.
 *
 * @see https://docs.kernel.org/filesystems/overlayfs.html
 */
export interface OverlayOptions extends LayerStack {
  /** In place of `upper` and `work`: a private tmpfs (of `size` bytes) that goes with the mount. */
  readonly scratch?: true | { readonly size?: bigint };
  /** Where to attach it. Without a target the overlay is a detached view, reachable only through its descriptor. */
  readonly target?: PathLike;
  /** Make the target (one level, mode 0755) if it is missing, and remove it again at unmount. Default false. */
  readonly mkdirTarget?: boolean;
  /** A read-only superblock; allowed with an upper too. Default false. */
  readonly readonly?: boolean;
  /** Add an empty lower where the kernel would refuse a single one without an upper. Default false. */
  readonly allowSingleLower?: boolean;
  /** Leave it mounted when the process ends. Default false. */
  readonly keepOnExit?: boolean;
  /** Ask the kernel whether upper or work are in use by a live overlay. Default true; costs about 0.3 ms. */
  readonly checkInUse?: boolean;
  /** Remove the marker that a volatile mount left in the work directory, knowing that its last writes may be lost. */
  readonly removeVolatileMarker?: boolean;
  /** Refuse an upper without extended attributes, in place of reporting a degradation. Default false. */
  readonly strict?: boolean;
  /** Inode numbers that are unique across layers. Default `'off'`. */
  readonly xino?: 'on' | 'off' | 'auto';
  /** File handles that survive copy-up, for NFS export. Default false; true turns `index` on. */
  readonly nfsExport?: boolean;
  /** The uuid of the overlay's superblock. The kernel's default is `'auto'` (Linux 6.6). */
  readonly uuid?: 'on' | 'off' | 'null' | 'auto';
  /** Whether fs-verity digests of metacopy files are checked (Linux 6.6). */
  readonly verity?: 'on' | 'off' | 'require';
  /** Never sync the upper: fast, and after a crash the upper must be thrown away. Default false. */
  readonly volatile?: boolean;
  /** Anything else that this kernel knows, passed on as it is; refused for what is an option of its own here. */
  readonly kernelOptions?: Readonly<Record<string, string | true>>;
  readonly mountFlags?: MountFlags;
  /** How mounts below the target travel between mount namespaces. Default `'private'`. */
  readonly propagation?: Propagation;
  /** Shown as the source in mount tables. The default names the owning process, for {@link unmountOrphans}. */
  readonly source?: string;
  /** `'auto'`: the best that the kernel has; `'mount'` forces mount(2), `'fsconfig'` the newer calls. */
  readonly mountApi?: 'auto' | 'fsconfig' | 'mount';
  /** Unmount when one of these arrives, then let it take its course. Default none; not available in workers. */
  readonly unmountOnSignals?: readonly NodeJS.Signals[];
  readonly signal?: AbortSignal;
}

/** The same, checked: paths absolute and in bytes, every value of its type. Not yet known to make sense together. */
export interface CheckedOptions extends Omit<OverlayOptions, keyof LayerPaths> {
  readonly lower: readonly NativeRef[];
  readonly dataOnlyLower: readonly NativeRef[];
  readonly upper?: NativeRef;
  readonly work?: NativeRef;
  readonly target?: Buffer;
  /** Of the directory that `mkdirTarget` makes; a caller cannot give it. */
  readonly targetMode?: number;
}
interface LayerPaths {
  lower: unknown;
  dataOnlyLower: unknown;
  upper: unknown;
  work: unknown;
  target: unknown;
}

const anything: Check = () => {};

const catchable: readonly unknown[] = Object.keys(os.signals).filter(
  (signal) => signal !== 'SIGKILL' && signal !== 'SIGSTOP',
);

const mountFlagNames = ['noexec', 'nosuid', 'nodev', 'noatime', 'nodiratime', 'relatime', 'strictatime'];

const checks: Record<keyof OverlayOptions, Check> = {
  lower: anything,
  dataOnlyLower: anything,
  upper: anything,
  work: anything,
  target: anything,
  index: boolean,
  metacopy: boolean,
  userxattr: boolean,
  redirectDir: oneOf('on', 'follow', 'nofollow'),
  scratch: (value, name) => {
    if (value === true) return;
    const { size } = closed(value, name, ['size']);
    if (size !== undefined && (typeof size !== 'bigint' || size <= 0n || size > 0x7fffffffffffffffn)) {
      throw invalidArgument(`${name}.size`, size, 'must be a positive bigint of bytes');
    }
  },
  mkdirTarget: boolean,
  readonly: boolean,
  allowSingleLower: boolean,
  keepOnExit: boolean,
  checkInUse: boolean,
  removeVolatileMarker: boolean,
  strict: boolean,
  xino: oneOf('on', 'off', 'auto'),
  nfsExport: boolean,
  uuid: oneOf('on', 'off', 'null', 'auto'),
  verity: oneOf('on', 'off', 'require'),
  volatile: boolean,
  kernelOptions: (value, name) => {
    for (const [key, content] of Object.entries(record(value, name)))
      kernelOption(key, content, `${name}.${key}`);
  },
  mountFlags: (value, name) => {
    for (const [key, flag] of Object.entries(closed(value, name, mountFlagNames))) {
      if (flag !== undefined) boolean(flag, `${name}.${key}`);
    }
  },
  propagation: oneOf('private', 'slave', 'shared', 'unbindable'),
  source: string,
  mountApi: oneOf('auto', 'fsconfig', 'mount'),
  unmountOnSignals: (value, name) => {
    if (!Array.isArray(value)) throw invalidArgument(name, value, 'must be an array of signal names');
    for (const signal of value) {
      if (!catchable.includes(signal)) throw invalidArgument(name, signal, 'is no signal that can be caught');
    }
  },
  signal: abortSignal,
};

const modelled: Readonly<Record<string, string>> = {
  lowerdir: 'lower',
  'lowerdir+': 'lower',
  'datadir+': 'dataOnlyLower',
  upperdir: 'upper',
  workdir: 'work',
  redirect_dir: 'redirectDir',
  index: 'index',
  nfs_export: 'nfsExport',
  xino: 'xino',
  metacopy: 'metacopy',
  uuid: 'uuid',
  verity: 'verity',
  userxattr: 'userxattr',
  volatile: 'volatile',
  source: 'source',
  ro: 'readonly',
  rw: 'readonly',
};

/** Checks types and keys, and takes the current directory: everything that must be done before the first `await`. */
export function checkOptions(options: OverlayOptions): CheckedOptions {
  const given = ownCopy(closed(options, 'options', optionNames));
  const { lower, dataOnlyLower, upper, work, target, ...rest } = given as unknown as OverlayOptions;
  if (lower === undefined) throw invalidArgument('lower', lower, 'must be given');
  return {
    ...rest,
    lower: directoryRefs(lower, 'lower'),
    dataOnlyLower: dataOnlyLower === undefined ? [] : directoryRefs(dataOnlyLower, 'dataOnlyLower'),
    ...(upper === undefined ? {} : { upper: directoryRef(upper, 'upper') }),
    ...(work === undefined ? {} : { work: directoryRef(work, 'work') }),
    ...(target === undefined ? {} : { target: absolutePath(target, 'target') }),
  };
}

// What has been checked is what will be used, whatever the caller does with its own objects meanwhile.
function ownCopy(options: Record<string, unknown>): Record<string, unknown> {
  const own: Record<string, unknown> = {};
  for (const name of Object.keys(options)) {
    const value = options[name];
    if (value === undefined) continue;
    own[name] = copied.includes(name) ? copy(value) : value;
    checks[name as keyof OverlayOptions](own[name], name);
  }
  return own;
}

const optionNames = Object.keys(checks);
const copied = ['kernelOptions', 'mountFlags', 'scratch', 'unmountOnSignals'];

function copy(value: unknown): unknown {
  if (Array.isArray(value)) return [...value];
  return typeof value === 'object' && value !== null ? { ...value } : value;
}

function kernelOption(key: string, value: unknown, name: string): void {
  if (Object.hasOwn(modelled, key))
    throw invalidArgument(name, value, `has an option of its own: ${modelled[key]}`);
  if (key === '' || /[=,\0]/.test(key)) throw invalidArgument(name, key, 'is no option name');
  if (value !== true) string(value, name);
}
