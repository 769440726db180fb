/**
 * What this kernel, this privilege and these directories allow: found by trying, each answer with its evidence.
 * @module
 */
import { readFileSync } from 'node:fs';
import { release } from 'node:os';
import { binding } from '../addon.ts';
import { invalidArgument, systemError } from '../errors.ts';
import type { KernelFeatures, NativeRef, Rung } from '../native/binding.ts';
import { explained } from '../native-errors.ts';
import { directoryRef } from '../paths.ts';
import type { DirRef } from '../types.ts';
import { type Answer, answer, no, yes } from './answer.ts';
import { type DirectorySupport, directorySupport } from './directory-support.ts';
import { kernelFeatures } from './kernel.ts';
import { moduleParameters } from './module-parameters.ts';

/** What {@link support} tells. */
export interface Support {
  readonly kernel: { readonly release: string; readonly bootId: string };
  /** CAP_SYS_ADMIN is in effect, and overlayfs is in the kernel. */
  readonly mount: Answer;
  /** The ways to hand an overlay to the kernel, best first. */
  readonly rungs: Readonly<Record<Rung, Answer>>;
  /** What mounts and handles rest on. */
  readonly features: Readonly<Record<Feature, Answer>>;
  /** Overlay option → value → whether the kernel takes it. A flag's only value is `''`. */
  readonly options: Readonly<Record<string, Readonly<Record<string, Answer>>>>;
  /** Whether the kernel can tell if an upper is in use. */
  readonly inUseProbe: Answer;
  readonly userNamespaces: UserNamespaces;
  /** System calls that need no privilege and are refused all the same: a seccomp filter. */
  readonly filtered: readonly string[];
  /** `/sys/module/overlay/parameters`: the kernel's own defaults, which this package never relies on. */
  readonly moduleParameters: Readonly<Record<string, string>>;
  readonly lower?: readonly DirectorySupport[];
  readonly upper?: DirectorySupport;
  readonly work?: DirectorySupport;
}

/** One thing that a kernel has or lacks. */
export type Feature =
  | 'fsopen'
  | 'nativeOptions'
  | 'lowerdirAppend'
  | 'layerFds'
  | 'layerFdsByPath'
  | 'detachedLayers'
  | 'uniqueMountIds';

/** Who may make user namespaces, in which overlays can be mounted without root. */
export interface UserNamespaces {
  /** This process, tried. */
  readonly allowed: Answer;
  /** Processes without privilege, as far as the system's settings tell. */
  readonly unprivileged: Answer;
  /** user.max_user_namespaces. */
  readonly most?: bigint;
}

/**
 * Reports what this kernel allows this process, and what the file systems of these directories can do. Probes are made
 * in the directories themselves and leave nothing but their mtime changed; lowers are only read.
 *
 * @throws OverlayError when a directory cannot be opened.
 *
 * @example
 * ```ts
 * import { support } from 'overlayfs';
 *
 * const { mount, rungs, upper } = await support({ upper: '/srv/upper' });
 * if (!mount.ok) console.error(mount.reason);
 * console.log(rungs['layer-fds'].ok, upper?.reflink.ok, upper?.room.bytes);
 * ```
 */
export async function support(
  directories: {
    readonly lower?: DirRef | readonly DirRef[];
    readonly upper?: DirRef;
    readonly work?: DirRef;
  } = {},
): Promise<Support> {
  const refs = checkDirectories(directories);
  const features = await kernelFeatures();
  return {
    kernel: { release: release(), bootId: readText('/proc/sys/kernel/random/boot_id') ?? '' },
    mount: mountAnswer(features),
    rungs: rungAnswers(features),
    features: featureAnswers(features),
    options: await optionAnswers(features),
    inUseProbe: inUseAnswer(features),
    userNamespaces: await userNamespaces(),
    filtered: features.filtered,
    moduleParameters: await moduleParameters(),
    ...(await directoryAnswers(refs)),
  };
}

interface Refs {
  readonly lower?: readonly NativeRef[];
  readonly upper?: NativeRef;
  readonly work?: NativeRef;
}

function checkDirectories(directories: Parameters<typeof support>[0] & object): Refs {
  if (typeof directories !== 'object' || directories === null) {
    throw invalidArgument('directories', directories, 'must be an object');
  }
  const unknown = Object.keys(directories).find((key) => !['lower', 'upper', 'work'].includes(key));
  if (unknown !== undefined) throw invalidArgument(unknown, directories, 'is not a known option');
  const { lower, upper, work } = directories;
  const lowers =
    lower === undefined ? undefined : Array.isArray(lower) ? (lower as DirRef[]) : [lower as DirRef];
  return {
    ...(lowers === undefined ? {} : { lower: lowers.map((ref, i) => directoryRef(ref, `lower[${i}]`)) }),
    ...(upper === undefined ? {} : { upper: directoryRef(upper, 'upper') }),
    ...(work === undefined ? {} : { work: directoryRef(work, 'work') }),
  };
}

async function directoryAnswers({
  lower,
  upper,
  work,
}: Refs): Promise<Pick<Support, 'lower' | 'upper' | 'work'>> {
  return {
    ...(lower === undefined
      ? {}
      : { lower: await Promise.all(lower.map((ref) => directorySupport(ref, false))) }),
    ...(upper === undefined ? {} : { upper: await directorySupport(upper, true) }),
    ...(work === undefined ? {} : { work: await directorySupport(work, true) }),
  };
}

function mountAnswer({ fsopenErrno, sysAdmin, filtered }: KernelFeatures): Answer {
  const evidence = `fsopen("overlay"): ${outcome(fsopenErrno)}`;
  if (!sysAdmin) return no('CAP_SYS_ADMIN is not in effect', evidence);
  if (filtered.includes('mount')) {
    return no(
      'a seccomp filter or a security module refuses the mount calls',
      `${evidence}; mount(2): EPERM`,
    );
  }
  return systemError(fsopenErrno).code === 'ENODEV'
    ? no('this kernel has no overlay file system', evidence)
    : yes('CAP_SYS_ADMIN is in effect', evidence);
}

function rungAnswers(features: KernelFeatures): Support['rungs'] {
  const opened = features.fsopenErrno === 0;
  const mount = features.sysAdmin && !features.filtered.includes('mount');
  const fsopen = `fsopen("overlay"): ${outcome(features.fsopenErrno)}`;
  return {
    'layer-fds': answer(
      features.layerFds !== 'none',
      'layers as descriptors',
      `SET_FD lowerdir+: ${features.layerFds}`,
      '6.13',
    ),
    'layer-names': answer(features.lowerdirAppend, 'layers by lowerdir+', 'SET lowerdir+', '6.7'),
    'joined-names': answer(opened, 'layers in one lowerdir', fsopen, '5.2'),
    mount: answer(mount, 'mount(2)', 'CAP_SYS_ADMIN', '3.18'),
    'mount-fd-names': answer(mount, 'mount(2) from /proc/self/fd', 'CAP_SYS_ADMIN', '4.0'),
  };
}

function featureAnswers(features: KernelFeatures): Support['features'] {
  const { fsopenErrno, nativeParser, lowerdirAppend, layerFds, detachedLayers, statmount } = features;
  return {
    fsopen: answer(fsopenErrno === 0, 'fsopen(2)', outcome(fsopenErrno), '5.2'),
    nativeOptions: answer(
      nativeParser,
      'overlayfs reads its own options',
      'an option of no kernel is refused',
      '6.5',
    ),
    lowerdirAppend: answer(lowerdirAppend, 'lowerdir+', 'SET lowerdir+', '6.7'),
    layerFds: answer(layerFds !== 'none', 'layers as O_RDONLY descriptors', 'SET_FD lowerdir+', '6.13'),
    layerFdsByPath: answer(layerFds === 'path', 'layers as O_PATH descriptors', 'SET_FD lowerdir+', '6.14'),
    detachedLayers: answer(
      detachedLayers,
      'layers on detached mounts',
      'SET_FD of a directory on a detached tmpfs',
      '6.15',
    ),
    uniqueMountIds: answer(
      statmount,
      'unique mount ids and statmount(2)',
      'statx STATX_MNT_ID_UNIQUE, statmount',
      '6.8',
    ),
  };
}

const optionValues: Readonly<Record<string, readonly string[]>> = {
  redirect_dir: ['on', 'follow', 'nofollow', 'off'],
  index: ['on', 'off'],
  nfs_export: ['on', 'off'],
  xino: ['on', 'off', 'auto'],
  metacopy: ['on', 'off'],
  uuid: ['on', 'off', 'null', 'auto'],
  verity: ['on', 'off', 'require'],
  fsync: ['volatile', 'auto', 'strict'],
  userxattr: [''],
  volatile: [''],
  default_permissions: [''],
  override_creds: [''],
  nooverride_creds: [''],
};

async function optionAnswers({
  fsopenErrno,
  nativeParser,
  sysAdmin,
}: KernelFeatures): Promise<Support['options']> {
  const pairs = Object.entries(optionValues).flatMap(([key, values]) =>
    values.map((value) => [key, value] as const),
  );
  const probed =
    fsopenErrno === 0 && (nativeParser || sysAdmin)
      ? await explained(
          binding().tryOptions(
            pairs.map(([key, value]) => [key, value === '' ? null : Buffer.from(value)] as const),
          ),
          'the options',
        )
      : undefined;
  const options: Record<string, Record<string, Answer>> = {};
  for (const [i, [key, value]] of pairs.entries()) {
    const errno = probed?.[i];
    const shown = value === '' ? key : `${key}=${value}`;
    options[key] ??= {};
    options[key][value] =
      errno === undefined
        ? no(
            'not tried',
            fsopenErrno === 0
              ? 'this kernel checks no option before the mount, and mounting needs CAP_SYS_ADMIN'
              : `fsopen("overlay"): ${outcome(fsopenErrno)}`,
          )
        : answer(errno === 0, shown, `${nativeParser ? 'SET' : 'CREATE with'} ${shown}: ${outcome(errno)}`);
  }
  return options;
}

function inUseAnswer({ initialUserNamespace }: KernelFeatures): Answer {
  const evidence = 'inode of /proc/self/ns/user';
  return initialUserNamespace
    ? yes('a throw-away overlay with index=on is refused a layer that is in use', evidence)
    : no('inside a user namespace the kernel does not tell', evidence);
}

async function userNamespaces(): Promise<UserNamespaces> {
  const errno = await explained(binding().tryUserNamespace(), 'user namespaces');
  const most = readText('/proc/sys/user/max_user_namespaces');
  const settings: readonly (readonly [file: string, forbids: string])[] = [
    ['/proc/sys/user/max_user_namespaces', '0'],
    ['/proc/sys/kernel/unprivileged_userns_clone', '0'],
    ['/proc/sys/kernel/apparmor_restrict_unprivileged_userns', '1'],
  ];
  const forbidding = settings.find(([file, forbids]) => readText(file) === forbids);
  return {
    allowed: answer(errno === 0, 'clone(CLONE_NEWUSER)', outcome(errno), '3.8'),
    unprivileged:
      forbidding === undefined
        ? yes('no setting forbids it', settings.map(([file]) => file).join(', '))
        : no(`${forbidding[0]} is ${forbidding[1]}`, forbidding[0]),
    ...(most === undefined ? {} : { most: BigInt(most) }),
  };
}

function readText(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8').trim();
  } catch {
    return undefined;
  }
}

const outcome = (errno: number) => (errno === 0 ? 'taken' : systemError(errno).code);
