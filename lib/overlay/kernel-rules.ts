/**
 * The rules on what the kernel answered: privilege, options, the target, and what only an attempt can tell.
 * @module
 */
import { constants } from 'node:os';
import type { NativeMountFailure } from '../native/binding.ts';
import { showPath } from '../paths.ts';
import type { LayerRole } from './layer-facts.ts';
import type { Evidence, Rule } from './rule.ts';

const { errno } = constants;
const OVERLAYFS_SUPER_MAGIC = 0x794c7630;

/** Most telling first. */
export const kernelRules: readonly Rule[] = [
  {
    code: 'ERR_OVERLAY_NO_PRIVILEGE',
    find: ({ features, failure }) => {
      const missing = failure === undefined ? !features.sysAdmin : isRefused(failure) && !features.sysAdmin;
      return missing ? [{ detail: 'mounting needs CAP_SYS_ADMIN, which this process has not' }] : [];
    },
    fix: 'Run it as root, or inside a user namespace (`unshare --user --map-root-user --mount`): there it is allowed since Linux 5.11',
  },
  {
    code: 'ERR_OVERLAY_NO_PRIVILEGE',
    find: whenFailed((failure, { features, plan }) => {
      if (!isRefused(failure) || !features.sysAdmin || features.initialUserNamespace) return undefined;
      const trusting = plan.options
        .filter(([key, value]) => trustingOptions.includes(key) && !/^(off|nofollow)$/.test(String(value)))
        .map(([key]) => key);
      const what = trusting.length > 0 ? trusting.join(', ') : 'this overlay';
      return `inside a user namespace the kernel refuses ${what}: that needs CAP_SYS_ADMIN in the initial one`;
    }),
    fix: 'Leave these options out there',
  },
  {
    code: 'ERR_OVERLAY_SECCOMP',
    find: whenFailed((failure, { features }) =>
      isRefused(failure) && features.sysAdmin && features.initialUserNamespace
        ? `${failure.syscall} is refused although this process has CAP_SYS_ADMIN: a seccomp filter, or a security module`
        : undefined,
    ),
    fix: "Allow the mount calls in the container's seccomp profile",
  },
  {
    code: 'ERR_OVERLAY_NOT_IN_KERNEL',
    find: ({ features, failure }) =>
      -(failure?.errno ?? features.fsopenErrno) === errno.ENODEV
        ? [{ detail: 'this kernel has no overlay file system' }]
        : [],
    fix: 'Load the module (`modprobe overlay`), or use a kernel with CONFIG_OVERLAY_FS',
  },
  {
    code: 'ERR_OVERLAY_LAYER_NOT_PERMITTED',
    find: whenFailed((failure, evidence) =>
      failure.step.startsWith('check-') && -failure.errno === errno.EACCES
        ? `${failure.role} ${shown(evidence, failure.role)} cannot be read by this process`
        : undefined,
    ),
    fix: 'Grant read and search permission on it',
  },
  {
    code: 'ERR_OVERLAY_WORK_LOCKED',
    step: 'check-in-use',
    find: whenFailed(
      ({ syscall, errno: code }) =>
        syscall === 'flock' && -code === errno.EWOULDBLOCK
          ? 'another process that uses this package is working on this work directory'
          : undefined,
      'work',
    ),
    fix: 'Wait until it has finished',
  },
  {
    code: 'ERR_OVERLAY_UPPER_IN_USE',
    step: 'check-in-use',
    find: (evidence) => {
      const { failure, rehearsal, plan } = evidence;
      const refused = failure?.step === 'check-in-use' && failure.role === 'upper';
      const refusedByIndex = failure?.step === 'create' && -failure.errno === errno.EBUSY;
      if (!refused && !refusedByIndex && !(plan.checkInUse && rehearsal?.inUse === 'upper')) return [];
      const upper = shown(evidence, 'upper');
      return [{ detail: `the upper ${upper} ${inUse}`, path: upper }];
    },
    fix: 'Unmount that overlay, or use another upper and work; two overlays on one upper lose data',
  },
  {
    code: 'ERR_OVERLAY_WORK_IN_USE',
    step: 'check-in-use',
    find: (evidence) => {
      const { failure, rehearsal, plan } = evidence;
      const refused =
        failure?.step === 'check-in-use' && failure.role === 'work' && -failure.errno === errno.EBUSY;
      if (!refused && !(plan.checkInUse && rehearsal?.inUse === 'work')) return [];
      const work = shown(evidence, 'work');
      return [{ detail: `the work directory ${work} ${inUse}`, path: work }];
    },
    fix: 'Unmount that overlay, or use another work directory',
  },
  {
    code: 'ERR_OVERLAY_LAYER_UNSUITABLE',
    find: whenFailed((failure) =>
      /filesystem on .* not supported$|inconsistent/m.test(said(failure))
        ? 'the kernel does not take this file system for a layer'
        : undefined,
    ),
    fix: 'Use a layer on another file system',
  },
  {
    code: 'ERR_OVERLAY_OPTION_UNKNOWN',
    find: ({ refusedOptions = [] }) =>
      refusedOptions
        .filter(({ known }) => !known)
        .map(({ key }) => ({ detail: `this kernel does not know the overlay option ${key}` })),
    fix: 'Leave it out, or use a newer kernel',
  },
  {
    code: 'ERR_OVERLAY_OPTION_VALUE',
    find: ({ refusedOptions = [] }) =>
      refusedOptions
        .filter(({ known }) => known)
        .map(({ key, value }) => ({
          detail: `this kernel does not take ${value ? `${key}=${showPath(value)}` : key}`,
        })),
    fix: 'Correct the value, or leave the option out',
  },
  {
    code: 'ERR_OVERLAY_OPTION_UNKNOWN',
    find: ({ plan, features }) =>
      plan.dataOnlyLower.length > 0 && features.fsopenErrno === 0 && !features.nativeParser
        ? [{ detail: 'this kernel has no data-only layers: they came with Linux 6.5' }]
        : [],
    fix: 'Leave dataOnlyLower out, or use a newer kernel',
  },
  {
    code: 'ERR_OVERLAY_OPTION_UNKNOWN',
    find: whenFailed((failure, { plan, features }) => {
      const unknown = /Unknown parameter '([^']*)'/.exec(said(failure))?.[1];
      if (unknown !== undefined) return `this kernel does not know the overlay option ${unknown}`;
      // Through mount(2) the kernel names no option: what is not known to be known is suspect.
      const suspects = plan.options
        .map(([key]) => key)
        .filter((key) => !features.options.includes(key) && !everyKernelKnows.includes(key));
      const guess =
        features.nativeParser &&
        suspects.length > 0 &&
        isInvalid(failure) &&
        said(failure) === '' &&
        !hasComma(failure);
      return guess ? `this kernel seems not to know ${suspects.join(', ')}` : undefined;
    }),
    fix: 'Leave it out, or use a newer kernel',
  },
  {
    code: 'ERR_OVERLAY_OPTION_VALUE',
    find: whenFailed((failure, { plan }) => {
      if (hasComma(failure)) return showPath(failure.arguments);
      const key = /(?:Bad|Unexpected) value for '([^']*)'/.exec(said(failure))?.[1];
      if (key === undefined) return undefined;
      const value = plan.options.find(([name]) => name === key)?.[1];
      return `this kernel does not take ${value ? `${key}=${showPath(value)}` : key}`;
    }),
    fix: 'Correct the value, or leave the option out',
  },
  {
    code: 'ERR_OVERLAY_TARGET_NOT_FOUND',
    step: 'target',
    find: whenTarget((path, code) =>
      code === errno.ENOENT ? `the target ${path} does not exist` : undefined,
    ),
    fix: 'Make the directory, or set mkdirTarget, which makes one level',
  },
  {
    code: 'ERR_OVERLAY_TARGET_NOT_DIRECTORY',
    step: 'target',
    find: whenTarget((path, code) =>
      code === errno.ENOTDIR ? `the target ${path} is not a directory` : undefined,
    ),
    fix: 'An overlay is mounted on a directory: correct the path',
  },
  {
    code: 'ERR_OVERLAY_TARGET_UNREACHABLE',
    step: 'target',
    find: whenTarget((path, code) =>
      code !== errno.ENOENT && code !== errno.ENOTDIR ? `the target ${path} cannot be reached` : undefined,
    ),
    fix: 'See errno: permissions, a loop of symbolic links, or a name that is too long',
  },
  {
    code: 'ERR_OVERLAY_CAME_UP_READONLY',
    step: 'verify-writable',
    find: (evidence) => {
      const { failure, rehearsal } = evidence;
      if (failure?.step !== 'verify-writable' && rehearsal?.workUncleanable !== true) return [];
      const work = shown(evidence, 'work');
      return [
        {
          detail: `the kernel cannot prepare ${work}/work, and would make the overlay read-only`,
          path: work,
        },
      ];
    },
    fix: 'Empty the work directory: something in its work/ cannot be cleaned, or this user may not write there',
  },
  {
    code: 'ERR_OVERLAY_INDEX_MISMATCH',
    find: whenFailed(
      (failure) =>
        -failure.errno === errno.ESTALE
          ? 'the upper or its index was made with other layers: index and nfsExport tie an upper to its lower and work'
          : undefined,
      'upper',
    ),
    fix: 'Mount it with the layers that it was made with, or with index: false',
  },
  {
    code: 'ERR_OVERLAY_NESTED_TOO_DEEP',
    find: ({ failure, layers }) => {
      if (failure?.step !== 'create' || !isInvalid(failure) || said(failure) !== '') return [];
      return layers
        .filter(({ facts }) => facts.error === undefined && facts.fileSystem === OVERLAYFS_SUPER_MAGIC)
        .map(({ label, shown: path }) => ({
          detail: `${label} ${path} is an overlay on an overlay: the kernel stacks two, not three`,
          path,
        }));
    },
    fix: 'Name the layers of that overlay as lowers, in place of its mount',
  },
  {
    code: 'ERR_OVERLAY_NO_DETACHED',
    find: whenFailed((failure, { plan }) =>
      -failure.errno === errno.E2BIG && plan.target === undefined
        ? 'before Linux 6.7 a detached view takes only as many layers as 255 bytes can name'
        : undefined,
    ),
    fix: 'Use fewer layers, or give a target',
  },
  {
    code: 'ERR_OVERLAY_TOO_MANY_LOWERS',
    find: whenFailed((failure, { plan }) =>
      -failure.errno === errno.E2BIG && plan.target !== undefined
        ? 'the layers and options do not fit into the 4,095 bytes that mount(2) carries'
        : undefined,
    ),
    fix: 'Use fewer layers, or a kernel that takes layers as descriptors (Linux 6.13)',
  },
  {
    code: 'ERR_OVERLAY_NO_SPACE',
    find: whenErrno(
      [errno.ENOSPC, errno.EDQUOT],
      'the file system of upper and work has no room or no inodes left, or the limit of mounts (fs.mount-max) is reached',
    ),
    fix: 'Free some, or raise the limit',
  },
  {
    code: 'ERR_OVERLAY_NO_MEMORY',
    find: whenErrno([errno.ENOMEM], 'the kernel has no memory for it'),
    fix: 'Free some memory',
  },
  {
    code: 'ERR_OVERLAY_TOO_MANY_FILES',
    find: whenErrno(
      [errno.EMFILE, errno.ENFILE],
      'no descriptor is left: a mount holds one for each of its layers',
    ),
    fix: 'Raise the limit (`ulimit -n`), or unmount what is not needed',
  },
];

// Layers, and options of every superblock: no probe asks for them.
const everyKernelKnows = [
  'lowerdir',
  'lowerdir+',
  'datadir+',
  'upperdir',
  'workdir',
  'sync',
  'dirsync',
  'mand',
  'lazytime',
];

// Attributes that an unprivileged user could forge in a layer.
const trustingOptions = ['redirect_dir', 'metacopy', 'verity'];

const inUse =
  'is in use by a live overlay: mounted here or in another mount namespace, lazily unmounted with files still open, or a detached view';

const isInvalid = (failure: NativeMountFailure) => -failure.errno === errno.EINVAL;
const hasComma = (failure: NativeMountFailure) =>
  showPath(failure.arguments).endsWith('cannot carry a comma');
const said = ({ kernel }: NativeMountFailure) => (kernel === undefined ? '' : showPath(kernel));

function isRefused({ errno: code, step }: NativeMountFailure): boolean {
  return -code === errno.EPERM && ['scratch', 'create', 'attach'].includes(step);
}

function shown({ layers }: Evidence, role: LayerRole | undefined): string | undefined {
  return layers.find((layer) => layer.role === role)?.shown;
}

function whenFailed(
  detail: (failure: NativeMountFailure, evidence: Evidence) => string | undefined,
  about?: LayerRole,
): Rule['find'] {
  return (evidence) => {
    const text = evidence.failure && detail(evidence.failure, evidence);
    return text === undefined ? [] : [{ detail: text, path: shown(evidence, about) }];
  };
}

function whenErrno(codes: readonly number[], detail: string): Rule['find'] {
  return whenFailed((failure) => (codes.includes(-failure.errno) ? detail : undefined));
}

function whenTarget(detail: (path: string, code: number) => string | undefined): Rule['find'] {
  return (evidence) => {
    const code = targetErrno(evidence);
    if (code === undefined || evidence.plan.target === undefined) return [];
    const path = showPath(evidence.plan.target);
    const text = detail(path, code);
    return text === undefined ? [] : [{ detail: text, path }];
  };
}

function targetErrno({ failure, target }: Evidence): number | undefined {
  if (failure?.step === 'target') return -failure.errno;
  if (target === undefined) return undefined;
  if (target.error !== undefined) return -target.error.errno;
  return target.isDirectory ? undefined : errno.ENOTDIR;
}
