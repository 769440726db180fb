/**
 * Why a mount fails: each rule once. A rule looks at the plan, at the facts of its directories and, where a mount has
 * been tried, at what the kernel answered; it tells one thing that is wrong and the way out.
 * @module
 */
import { constants } from 'node:os';
import { type ErrorCode, errorFinding } from '../errors.ts';
import type { KernelFeatures, MountStep, NativeMountFailure, NativePlan } from '../native/binding.ts';
import { showPath } from '../paths.ts';
import type { Finding } from '../types.ts';
import { containedPairs, type Layer, sameDirectoryPairs } from './layer-facts.ts';

const { errno } = constants;

/** What the rules look at. */
export interface Evidence {
  readonly plan: NativePlan;
  readonly features: KernelFeatures;
  /** Every layer of the plan that the caller named, in the order lower, data-only, upper, work. */
  readonly layers: readonly Layer[];
  /** What the mount came to; absent when nothing has been tried. */
  readonly failure?: NativeMountFailure;
}

/** Finds what it knows to look for; nothing when all is well. */
type Rule = (evidence: Evidence) => readonly Finding[];

/** Every rule, most telling first. */
export const rules: readonly Rule[] = [
  unreachableLayers,
  noPrivilege,
  notInKernel,
  deletedLayers,
  upperOrWorkInLower,
  inUse,
  volatileMarker,
  withoutXattrs,
  workApartFromUpper,
  overlappingLayers,
  readonlyUpper,
  unsuitableLayers,
  refusedOption,
  target,
  cameUpReadonly,
  indexMismatch,
  nested,
  tooLong,
  scarcity,
];

// What failed is told by the rule for that step; what else is wrong comes after it.
const ruleOfStep: Readonly<Partial<Record<MountStep, Rule>>> = {
  'open-layer': unreachableLayers,
  'check-in-lower': upperOrWorkInLower,
  'check-in-use': inUse,
  target,
  'verify-writable': cameUpReadonly,
};

/** Everything that the rules find, most telling first. */
export function findings(evidence: Evidence): Finding[] {
  const first = evidence.failure && ruleOfStep[evidence.failure.step];
  const ordered = first === undefined ? rules : [first, ...rules.filter((rule) => rule !== first)];
  return ordered.flatMap((rule) => rule(evidence));
}

function unreachableLayers({ layers }: Evidence): Finding[] {
  return layers.flatMap((layer): Finding[] => {
    const { facts, label, shown } = layer;
    if (facts.error === undefined) {
      if (facts.isDirectory) return [];
      return [
        layerFinding(
          'ERR_OVERLAY_LAYER_NOT_DIRECTORY',
          layer,
          `${label} ${shown} is not a directory`,
          'Name a directory',
        ),
      ];
    }
    switch (-facts.error.errno) {
      case errno.ENOENT:
        return [
          layerFinding(
            'ERR_OVERLAY_LAYER_NOT_FOUND',
            layer,
            `${label} ${shown} does not exist${dangling(layer)}`,
            'Make the directory, or correct the path',
          ),
        ];
      case errno.ENOTDIR:
        return [
          layerFinding(
            'ERR_OVERLAY_LAYER_NOT_DIRECTORY',
            layer,
            `a part of ${label} ${shown} is not a directory`,
            'Correct the path',
          ),
        ];
      case errno.EACCES:
      case errno.EPERM:
        return [
          layerFinding(
            'ERR_OVERLAY_LAYER_NOT_PERMITTED',
            layer,
            `${label} ${shown} cannot be reached with this process's permissions`,
            'Grant search permission on every directory of the path',
          ),
        ];
      case errno.EBADF:
        return [
          layerFinding(
            'ERR_OVERLAY_LAYER_BAD_FD',
            layer,
            `${label} is ${shown}, which is not an open descriptor`,
            'Keep it open until mountOverlay() has settled',
          ),
        ];
      case errno.EMFILE:
      case errno.ENFILE:
        return [];
      default:
        return [
          layerFinding(
            'ERR_OVERLAY_LAYER_UNREACHABLE',
            layer,
            `${label} ${shown} cannot be opened`,
            'See errno; a loop of symbolic links and a name that is too long end here',
          ),
        ];
    }
  });
}

const dangling = (layer: Layer) => (layer.isSymbolicLink ? ': it is a symbolic link to nowhere' : '');

function noPrivilege({ failure, features, plan }: Evidence): Finding[] {
  if (
    failure === undefined
      ? features.sysAdmin
      : !(failedWith(failure, errno.EPERM) && isAbout(failure, 'create', 'attach', 'scratch'))
  )
    return [];
  if (!features.sysAdmin) {
    return [
      errorFinding(
        'ERR_OVERLAY_NO_PRIVILEGE',
        'mounting needs CAP_SYS_ADMIN, which this process has not',
        'Run it as root, or inside a user namespace (`unshare --user --map-root-user --mount`): there it is allowed since Linux 5.11',
      ),
    ];
  }
  if (features.initialUserNamespace) {
    return [
      errorFinding(
        'ERR_OVERLAY_SECCOMP',
        `${failure?.syscall ?? 'mounting'} is refused although this process has CAP_SYS_ADMIN: a seccomp filter or a security module`,
        "Allow the mount calls in the container's seccomp profile",
      ),
    ];
  }
  const sent = plan.options.filter(
    ([key, value]) =>
      ['redirect_dir', 'metacopy', 'verity'].includes(key) &&
      value?.toString() !== 'off' &&
      value?.toString() !== 'nofollow',
  );
  return [
    errorFinding(
      'ERR_OVERLAY_NO_PRIVILEGE',
      `inside a user namespace the kernel refuses ${sent.map(([key]) => key).join(', ') || 'this overlay'}: it trusts such attributes only with CAP_SYS_ADMIN in the initial one`,
      'Leave these options out there',
    ),
  ];
}

function notInKernel({ failure, features }: Evidence): Finding[] {
  const missing =
    failure === undefined ? -features.fsopenErrno === errno.ENODEV : failedWith(failure, errno.ENODEV);
  if (!missing) return [];
  return [
    errorFinding(
      'ERR_OVERLAY_NOT_IN_KERNEL',
      'this kernel has no overlay file system',
      'Load the module (`modprobe overlay`), or use a kernel with CONFIG_OVERLAY_FS',
    ),
  ];
}

function deletedLayers({ layers }: Evidence): Finding[] {
  return layers
    .filter(
      ({ role, facts }) =>
        (role === 'upper' || role === 'work') && facts.error === undefined && facts.links === 0,
    )
    .map((layer) =>
      layerFinding(
        'ERR_OVERLAY_UPPER_DELETED',
        layer,
        `${layer.label} ${layer.shown} has been deleted: the kernel would take it, and then nothing could be created`,
        'Make a new directory and pass that',
      ),
    );
}

function upperOrWorkInLower({ layers, failure }: Evidence): Finding[] {
  if (failure?.step === 'check-in-lower' && failure.other !== undefined) {
    return [
      upperInLower(
        failure.role ?? 'upper',
        shownLayer(layers, failure.role ?? 'upper') ?? '',
        showPath(failure.other),
      ),
    ];
  }
  const lowers = layers.filter(({ role }) => role === 'lower');
  const writable = layers.filter(({ role }) => role === 'upper' || role === 'work');
  return containedPairs(writable, lowers).map(([inner, outer]) =>
    upperInLower(inner.label, inner.shown, outer.shown),
  );
}

function upperInLower(role: string, inner: string, lower: string): Finding {
  return errorFinding(
    'ERR_OVERLAY_UPPER_IN_LOWER',
    `the ${role} ${inner} lies inside the lower ${lower}; the kernel would take it in silence, and the overlay would contain itself`,
    'Put upper and work outside every lower',
    inner,
  );
}

function inUse({ failure, layers, plan }: Evidence): Finding[] {
  if (failure === undefined) return [];
  if (failure.step === 'check-in-use' && failure.syscall === 'flock') {
    return [
      errorFinding(
        'ERR_OVERLAY_WORK_LOCKED',
        'another process that uses this package is working on this work directory',
        'Wait until it has finished',
        shownLayer(layers, 'work'),
      ),
    ];
  }
  const busyCreate = failure.step === 'create' && failedWith(failure, errno.EBUSY);
  if (failure.step !== 'check-in-use' && !busyCreate) return [];
  const role = failure.role === 'work' ? 'work' : 'upper';
  if (busyCreate && plan.upper === undefined) {
    return [
      errorFinding(
        'ERR_OVERLAY_UPPER_IN_USE',
        'a lower is the upper or work directory of a live overlay',
        'Unmount that one first, or leave index out',
      ),
    ];
  }
  const shown = shownLayer(layers, role);
  return [
    errorFinding(
      role === 'upper' ? 'ERR_OVERLAY_UPPER_IN_USE' : 'ERR_OVERLAY_WORK_IN_USE',
      `the ${role} ${shown ?? ''} is in use by a live overlay: mounted here or in another mount namespace, lazily unmounted with files still open, or a detached view`,
      'Unmount that overlay, or use another upper and work; two overlays on one upper lose data',
      shown,
    ),
  ];
}

function volatileMarker({ layers, plan }: Evidence): Finding[] {
  if (plan.removeVolatileMarker) return [];
  return layers
    .filter(({ role, facts }) => role === 'work' && facts.error === undefined && facts.volatileMarker)
    .map((work) =>
      layerFinding(
        'ERR_OVERLAY_VOLATILE_MARKER',
        work,
        `${work.shown}/work/incompat/volatile says that the last mount was volatile and may have lost its last writes`,
        'Throw upper and work away, or set removeVolatileMarker if the upper is known to be whole',
      ),
    );
}

function withoutXattrs({ layers, plan }: Evidence): Finding[] {
  if (!plan.requireXattrs) return [];
  return layers
    .filter(
      ({ role, facts }) =>
        role === 'upper' && facts.error === undefined && -xattrErrno(facts, plan) === errno.EOPNOTSUPP,
    )
    .map((upper) =>
      layerFinding(
        'ERR_OVERLAY_UPPER_WITHOUT_XATTRS',
        upper,
        `the file system of the upper ${upper.shown} has no ${plan.xattrPrefix}* attributes: directories could not be removed and re-created`,
        'Use an upper on ext4, xfs, btrfs or tmpfs, or leave strict out',
      ),
    );
}

const xattrErrno = (facts: { trustedXattrErrno: number; userXattrErrno: number }, plan: NativePlan) =>
  plan.xattrPrefix === 'user.overlay.' ? facts.userXattrErrno : facts.trustedXattrErrno;

function workApartFromUpper({ layers }: Evidence): Finding[] {
  const upper = layers.find(({ role }) => role === 'upper');
  const work = layers.find(({ role }) => role === 'work');
  if (upper?.facts.error !== undefined || work?.facts.error !== undefined || !upper || !work) return [];
  const fix = 'Use two directories side by side on one mount: upper and work';
  if (upper.facts.mountId !== work.facts.mountId) {
    return [
      layerFinding(
        'ERR_OVERLAY_WORK_ON_OTHER_MOUNT',
        work,
        `work ${work.shown} is on another mount than upper ${upper.shown}; a bind mount of the same file system counts as another`,
        fix,
      ),
    ];
  }
  const notSeparate = (detail: string) => [layerFinding('ERR_OVERLAY_WORK_NOT_SEPARATE', work, detail, fix)];
  if (sameDirectoryPairs([upper, work]).length > 0)
    return notSeparate(`work and upper are the same directory, ${upper.shown}`);
  if (containedPairs([work], [upper]).length > 0)
    return notSeparate(`work ${work.shown} lies inside upper ${upper.shown}`);
  if (containedPairs([upper], [work]).length > 0)
    return notSeparate(`upper ${upper.shown} lies inside work ${work.shown}`);
  return [];
}

function overlappingLayers({ layers }: Evidence): Finding[] {
  const lowers = layers.filter(({ role }) => role === 'lower' || role === 'dataOnlyLower');
  const writable = layers.filter(({ role }) => role === 'upper' || role === 'work');
  const found: Finding[] = [];
  for (const [first, second] of sameDirectoryPairs(lowers)) {
    found.push(
      layerFinding(
        'ERR_OVERLAY_LOWER_TWICE',
        second,
        `${first.label} and ${second.label} are the same directory, ${second.shown}`,
        'Name each lower once',
      ),
    );
  }
  for (const [first, second] of sameDirectoryPairs([...lowers, ...writable])) {
    if (!writable.includes(second) || writable.includes(first)) continue;
    found.push(
      layerFinding(
        'ERR_OVERLAY_UPPER_IS_LOWER',
        second,
        `${second.label} ${second.shown} is ${first.label} too`,
        'Use a directory of its own for each',
      ),
    );
  }
  for (const [inner, outer] of containedPairs(lowers, lowers)) {
    found.push(
      layerFinding(
        'ERR_OVERLAY_LOWER_IN_LOWER',
        inner,
        `${inner.label} ${inner.shown} lies inside ${outer.label} ${outer.shown}`,
        'Layers must not contain one another',
      ),
    );
  }
  for (const [inner, outer] of containedPairs(lowers, writable)) {
    found.push(
      layerFinding(
        'ERR_OVERLAY_LOWER_IN_UPPER',
        inner,
        `${inner.label} ${inner.shown} lies inside ${outer.label} ${outer.shown}`,
        'Put the lower outside upper and work',
      ),
    );
  }
  return found;
}

function readonlyUpper({ layers }: Evidence): Finding[] {
  return layers
    .filter(
      ({ role, facts }) =>
        (role === 'upper' || role === 'work') && facts.error === undefined && facts.readonly,
    )
    .map((layer) =>
      layerFinding(
        'ERR_OVERLAY_UPPER_READONLY',
        layer,
        `${layer.label} ${layer.shown} is on a read-only mount or file system`,
        'Remount it writable, or leave upper and work out for a read-only overlay',
      ),
    );
}

const OVERLAYFS_SUPER_MAGIC = 0x794c7630;
const PROC_SUPER_MAGIC = 0x9fa0;

function unsuitableLayers({ layers, failure }: Evidence): Finding[] {
  const found: Finding[] = [];
  for (const layer of layers) {
    const { role, facts } = layer;
    if (facts.error !== undefined) continue;
    const writable = role === 'upper' || role === 'work';
    if (writable && facts.fileSystem === OVERLAYFS_SUPER_MAGIC) {
      found.push(
        layerFinding(
          'ERR_OVERLAY_UPPER_ON_OVERLAY',
          layer,
          `${layer.label} ${layer.shown} is on an overlay, which cannot hold an upper`,
          'Use a directory on a plain file system: a volume, or a tmpfs (scratch)',
        ),
      );
    }
    if (facts.fileSystem === PROC_SUPER_MAGIC) {
      found.push(
        layerFinding(
          'ERR_OVERLAY_LAYER_UNSUITABLE',
          layer,
          `${layer.label} ${layer.shown} is on proc, which the kernel takes for no layer`,
          'Copy what is needed to a directory',
        ),
      );
    }
  }
  if (found.length > 0 || failure?.kernel === undefined) return found;
  const said = showPath(failure.kernel);
  const named = layers.find(({ role, index }) => role === failure.role && index === (failure.index ?? 0));
  const path = named?.shown ?? (failure.path === undefined ? undefined : showPath(failure.path));
  if (said.includes('not supported as upperdir')) {
    return [
      errorFinding(
        'ERR_OVERLAY_UPPER_UNSUITABLE',
        'the kernel does not take this file system for an upper',
        'Use an upper on ext4, xfs, btrfs or tmpfs',
        path,
      ),
    ];
  }
  if (/filesystem on .* not supported|inconsistent/.test(said)) {
    return [
      errorFinding(
        'ERR_OVERLAY_LAYER_UNSUITABLE',
        'the kernel does not take this file system for a layer',
        'Use a layer on another file system',
        path,
      ),
    ];
  }
  return [];
}

function refusedOption({ failure, plan, features }: Evidence): Finding[] {
  if (failure === undefined) return [];
  const said = failure.kernel === undefined ? '' : showPath(failure.kernel);
  const unknown = /Unknown parameter '([^']*)'/.exec(said)?.[1];
  if (unknown !== undefined) {
    return [
      errorFinding(
        'ERR_OVERLAY_OPTION_UNKNOWN',
        `this kernel does not know the overlay option ${unknown}`,
        'Leave it out, or use a newer kernel; docs/kernels.md says since when each exists',
      ),
    ];
  }
  const bad = /(?:Bad|Unexpected) value for '([^']*)'/.exec(said)?.[1];
  if (bad !== undefined) {
    const value = plan.options.find(([key]) => key === bad)?.[1];
    return [
      errorFinding(
        'ERR_OVERLAY_OPTION_VALUE',
        `this kernel does not take ${bad}${value ? `=${showPath(value)}` : ''}`,
        'Correct the value, or leave the option out',
      ),
    ];
  }
  // Before Linux 6.5, and through mount(2), the kernel names no option: what it is not known to know is suspect.
  const suspects = plan.options
    .map(([key]) => key)
    .filter((key) => features.nativeParser && !features.options.includes(key));
  if (suspects.length > 0 && failedWith(failure, errno.EINVAL) && failure.step === 'create') {
    return [
      errorFinding(
        'ERR_OVERLAY_OPTION_UNKNOWN',
        `this kernel seems not to know ${suspects.join(', ')}`,
        'Leave it out',
      ),
    ];
  }
  return [];
}

function target({ failure, plan }: Evidence): Finding[] {
  if (failure?.step !== 'target' || plan.target === undefined) return [];
  const path = showPath(plan.target);
  switch (-failure.errno) {
    case errno.ENOENT:
      return [
        errorFinding(
          'ERR_OVERLAY_TARGET_NOT_FOUND',
          `the target ${path} does not exist`,
          plan.mkdirTarget ? 'Make its parent directory' : 'Make the directory, or set mkdirTarget',
          path,
        ),
      ];
    case errno.ENOTDIR:
      return [
        errorFinding(
          'ERR_OVERLAY_TARGET_NOT_DIRECTORY',
          `the target ${path} is not a directory`,
          'An overlay is mounted on a directory',
          path,
        ),
      ];
    default:
      return [
        errorFinding(
          'ERR_OVERLAY_TARGET_UNREACHABLE',
          `the target ${path} cannot be reached`,
          'See errno: permissions, a loop of symbolic links, or a name that is too long',
          path,
        ),
      ];
  }
}

function cameUpReadonly({ failure, layers }: Evidence): Finding[] {
  if (failure?.step !== 'verify-writable') return [];
  const work = shownLayer(layers, 'work') ?? 'the work directory';
  return [
    errorFinding(
      'ERR_OVERLAY_CAME_UP_READONLY',
      `the kernel could not prepare ${work}/work and made the overlay read-only; the mount has been undone`,
      `Empty ${work}: something in its work/ directory cannot be cleaned, or this user may not write there`,
      work,
    ),
  ];
}

function indexMismatch({ failure, layers }: Evidence): Finding[] {
  if (failure === undefined || !failedWith(failure, errno.ESTALE)) return [];
  return [
    errorFinding(
      'ERR_OVERLAY_INDEX_MISMATCH',
      'the upper or its index was made with other layers: index and nfsExport tie an upper to its lower and its work directory',
      'Mount it with the layers that it was made with, or with index: false',
      shownLayer(layers, 'upper'),
    ),
  ];
}

function nested({ failure, layers }: Evidence): Finding[] {
  if (failure?.step !== 'create' || !failedWith(failure, errno.EINVAL) || failure.kernel !== undefined)
    return [];
  return layers
    .filter(
      ({ role, facts }) =>
        role === 'lower' && facts.error === undefined && facts.fileSystem === OVERLAYFS_SUPER_MAGIC,
    )
    .map((layer) =>
      layerFinding(
        'ERR_OVERLAY_NESTED_TOO_DEEP',
        layer,
        `${layer.label} ${layer.shown} is an overlay on an overlay: the kernel stacks two, not three`,
        'Name the layers of that overlay as lowers, in place of its mount',
      ),
    );
}

function tooLong({ failure, plan }: Evidence): Finding[] {
  if (failure === undefined || !failedWith(failure, errno.E2BIG)) return [];
  if (plan.target === undefined) {
    return [
      errorFinding(
        'ERR_OVERLAY_NO_DETACHED',
        'before Linux 6.7 a detached view takes only as many layers as 255 bytes can name',
        'Use fewer layers, or give a target',
      ),
    ];
  }
  return [
    errorFinding(
      'ERR_OVERLAY_TOO_MANY_LOWERS',
      'the layers and options do not fit into the 4,095 bytes that mount(2) carries',
      'Use fewer layers, or a kernel with layers by descriptor (Linux 6.13)',
    ),
  ];
}

function scarcity({ failure }: Evidence): Finding[] {
  if (failure === undefined) return [];
  switch (-failure.errno) {
    case errno.ENOSPC:
    case errno.EDQUOT:
      return [
        errorFinding(
          'ERR_OVERLAY_NO_SPACE',
          'the file system of upper and work has no room or no inodes left (or the limit of mounts, fs.mount-max, is reached)',
          'Free some, or raise the limit',
        ),
      ];
    case errno.ENOMEM:
      return [errorFinding('ERR_OVERLAY_NO_MEMORY', 'the kernel has no memory for it', 'Free some memory')];
    case errno.EMFILE:
    case errno.ENFILE:
      return [
        errorFinding(
          'ERR_OVERLAY_TOO_MANY_FILES',
          'no descriptor is left: a mount holds one for each of its layers',
          'Raise the limit (`ulimit -n`), or unmount what is not needed',
        ),
      ];
    default:
      return [];
  }
}

function failedWith(failure: NativeMountFailure, code: number): boolean {
  return -failure.errno === code;
}

function isAbout(failure: NativeMountFailure, ...steps: NativeMountFailure['step'][]): boolean {
  return steps.includes(failure.step);
}

function shownLayer(layers: readonly Layer[], role: Layer['role']): string | undefined {
  return layers.find((layer) => layer.role === role)?.shown;
}

function layerFinding(code: ErrorCode, layer: Layer, detail: string, fix: string): Finding {
  return errorFinding(code, detail, fix, layer.shown);
}
