/**
 * From what the user wrote to what will be sent: every option spelled out, every contradiction found. Pure.
 * @module
 */
import { constants } from 'node:os';
import { OverlayError } from '../errors.ts';
import type {
  KernelFeatures,
  MountFlag,
  NativePlan,
  NativeRef,
  Propagation,
  Rung,
} from '../native/binding.ts';
import { exactString, showRef } from '../paths.ts';
import type { Finding } from '../types.ts';
import { contradictions } from './contradictions.ts';
import type { CheckedOptions, MountFlags } from './options.ts';
import { type SettledOptions, settle } from './settle.ts';

/** What a plan is made from beside the options. */
export interface PlanContext {
  readonly features: KernelFeatures;
  /** Whether this kernel takes verity or data-only layers only with metacopy=on; asked only when one is used. */
  readonly demandsMetacopy: boolean;
  /** The source of a mount that belongs to this process. */
  readonly ownSource: string;
  readonly unownedSource: string;
}

/**
 * A mount before it is made: every option as it will be sent. Plain data, good for logs.
 */
export interface OverlayPlan {
  /** Topmost first. */
  readonly lower: readonly string[];
  readonly dataOnlyLower: readonly string[];
  readonly upper?: string;
  readonly work?: string;
  readonly scratch: boolean;
  /** Bytes. */
  readonly scratchSize?: bigint;
  readonly target?: string;
  /** The kernel's own option names and values, in the order in which they are sent; flags are `true`. */
  readonly options: Readonly<Record<string, string | true>>;
  readonly readonly: boolean;
  readonly mountFlags: readonly MountFlag[];
  readonly propagation: Propagation;
  readonly source: string;
  /** The ways to hand it to the kernel, in the order in which they will be tried. */
  readonly rungs: readonly Rung[];
  /** What the kernel will ignore, and what cannot be checked. */
  readonly degradations: readonly Finding[];
}

/** A plan in the native side's terms, and in words for whoever asks: with 500 lowers the words cost more than the mount. */
export class PreparedPlan {
  readonly native: NativePlan;
  /** What the kernel will ignore, and what cannot be checked. */
  readonly degradations: readonly Finding[];
  #plan: OverlayPlan | undefined;

  constructor(native: NativePlan, degradations: readonly Finding[]) {
    this.native = native;
    this.degradations = degradations;
  }

  get plan(): OverlayPlan {
    this.#plan ??= describePlan(this.native, this.degradations);
    return this.#plan;
  }
}

/** Makes the plan, or throws an {@link OverlayError} with everything that contradicts. */
export function makePlan(options: CheckedOptions, context: PlanContext): PreparedPlan {
  const { problems, prepared } = draftPlan(options, context);
  const [first, ...rest] = problems;
  if (first !== undefined) throw new OverlayError([first, ...rest]);
  return prepared;
}

/** The plan as far as it can be made, and everything that contradicts. */
export function draftPlan(
  options: CheckedOptions,
  context: PlanContext,
): { readonly problems: readonly Finding[]; readonly prepared: PreparedPlan } {
  const settled = settle(options, context.features, context.demandsMetacopy);
  const native = nativePlan(options, settled, chooseRungs(options, context.features), context);
  return {
    problems: contradictions(options, settled, context.features),
    prepared: new PreparedPlan(native, degradations(options, settled, context)),
  };
}

type SentOption = readonly [key: string, value: string | true];

// Always explicit, so that no module default leaks in; but only what this kernel knows, unless the caller asks for it.
function sentOptions(
  options: CheckedOptions,
  settled: SettledOptions,
  features: KernelFeatures,
): SentOption[] {
  const onOff = (value: boolean) => (value ? 'on' : 'off');
  const knows = (key: string) => features.options.length === 0 || features.options.includes(key);
  const sent: SentOption[] = [];
  const always = (key: string, value: string, asked: unknown) => {
    if (asked !== undefined || knows(key)) sent.push([key, value]);
  };
  const asked = (key: string, value: string | undefined) => {
    if (value !== undefined) sent.push([key, value]);
  };
  always('redirect_dir', settled.redirectDir, options.redirectDir);
  always('index', onOff(settled.index), options.index);
  always('nfs_export', onOff(settled.nfsExport), options.nfsExport);
  always('xino', settled.xino, options.xino);
  always('metacopy', onOff(settled.metacopy), options.metacopy);
  asked('uuid', options.uuid);
  asked('verity', options.verity);
  if (settled.userxattr) sent.push(['userxattr', true]);
  if (options.volatile === true) sent.push(['volatile', true]);
  sent.push(...Object.entries(options.kernelOptions ?? {}));
  return sent;
}

/** The ladder, best rung first; the native side goes down only where the kernel lacks one. */
export function chooseRungs(
  options: Pick<CheckedOptions, 'mountApi' | 'target'>,
  features: KernelFeatures,
): Rung[] {
  const detached = options.target === undefined;
  const api = options.mountApi ?? 'auto';
  const byFsconfig: Rung[] = [];
  if (api !== 'mount' && features.fsopenErrno !== -constants.errno.ENOSYS) {
    // Where fsopen(2) is refused, the attempt itself says why.
    if (features.fsopenErrno !== 0 || features.layerFds !== 'none') byFsconfig.push('layer-fds');
    if (features.lowerdirAppend) byFsconfig.push('layer-names');
    if (features.fsopenErrno === 0 && !features.lowerdirAppend && (detached || api === 'fsconfig'))
      byFsconfig.push('joined-names');
  }
  const byMount: Rung[] = api === 'fsconfig' || detached ? [] : ['mount', 'mount-fd-names'];
  return [...byFsconfig, ...byMount];
}

function nativePlan(
  options: CheckedOptions,
  settled: SettledOptions,
  rungs: readonly Rung[],
  { features, ownSource, unownedSource }: PlanContext,
): NativePlan {
  const { upper, work, scratch, target } = options;
  const defaultSource = options.keepOnExit === true ? unownedSource : ownSource;
  const size = typeof scratch === 'object' ? scratch.size : undefined;
  return {
    policy: true,
    lower: options.lower,
    dataOnlyLower: options.dataOnlyLower,
    ...(upper === undefined ? {} : { upper }),
    ...(work === undefined ? {} : { work }),
    scratch: scratch !== undefined,
    ...(size === undefined ? {} : { scratchSize: size }),
    emptyLower: options.allowSingleLower === true && settled.needsSecondLower,
    options: sentOptions(options, settled, features).map(
      ([key, value]) => [key, value === true ? null : Buffer.from(value)] as const,
    ),
    source: Buffer.from(options.source ?? defaultSource),
    readonly: options.readonly ?? false,
    mountFlags: sentMountFlags(options.mountFlags ?? {}),
    propagation: options.propagation ?? 'private',
    ...(target === undefined ? {} : { target }),
    mkdirTarget: options.mkdirTarget ?? false,
    ...(options.targetMode === undefined ? {} : { targetMode: options.targetMode }),
    rungs,
    detachedLayers: features.detachedLayers,
    checkInUse: (options.checkInUse ?? true) && features.initialUserNamespace,
    removeVolatileMarker: options.removeVolatileMarker ?? false,
    requireXattrs: options.strict ?? false,
    xattrPrefix: settled.userxattr ? 'user.overlay.' : 'trusted.overlay.',
    keepUpperForSync: options.volatile === true,
    needsFileHandles:
      settled.writable && features.initialUserNamespace && (settled.index || settled.nfsExport),
    canTellInUse: features.initialUserNamespace,
    keepOnExit: options.keepOnExit ?? false,
  };
}

function sentMountFlags(flags: MountFlags): MountFlag[] {
  const names = ['nosuid', 'nodev', 'noexec', 'noatime', 'strictatime', 'nodiratime'] as const;
  return names.filter((name) => flags[name] === true);
}

function degradations(
  options: CheckedOptions,
  settled: SettledOptions,
  { features }: PlanContext,
): Finding[] {
  const found: Finding[] = [];
  const ignored = (option: string, fix: string) =>
    found.push(optionIgnored(option, 'there is no upper', fix));
  if (!settled.writable) {
    if (settled.index) ignored('index', 'Give an upper and a work directory, or leave index out');
    if (options.volatile === true) ignored('volatile', 'Leave it out: without an upper nothing is written');
    if (options.uuid === 'on') ignored("uuid: 'on'", 'Give an upper and a work directory, or leave uuid out');
    if (settled.nfsExport && settled.redirectDir !== 'nofollow') {
      ignored('nfsExport', "Without an upper it needs redirectDir: 'nofollow'");
    }
  }
  if (settled.writable && !features.initialUserNamespace && (settled.index || settled.nfsExport)) {
    found.push(optionIgnored('index (and nfsExport)', 'this is a user namespace', 'Leave them out there'));
  }
  const wantsCheck = options.upper !== undefined && (options.checkInUse ?? true);
  if (wantsCheck && !features.initialUserNamespace)
    found.push(inUseUnknown('inside a user namespace the kernel does not tell'));
  return found;
}

/** The finding for an option that the kernel takes and then does not heed. */
export function optionIgnored(option: string, why: string, fix: string): Finding {
  return {
    code: 'WARN_OVERLAY_OPTION_IGNORED',
    severity: 'warning',
    detail: `the kernel ignores ${option}, in silence: ${why}`,
    fix,
  };
}

/** The finding for an upper of which nobody can say whether a live overlay uses it. */
export function inUseUnknown(reason: string): Finding {
  return {
    code: 'WARN_OVERLAY_IN_USE_UNKNOWN',
    severity: 'warning',
    detail: `whether upper or work are in use by a live overlay could not be found out: ${reason}`,
    fix: 'Make sure that nothing else has them mounted; two overlays on one upper lose data',
  };
}

function describePlan(native: NativePlan, found: readonly Finding[]): OverlayPlan {
  const ref = (one: NativeRef) => showRef(one);
  const { upper, work, target, propagation = 'private' } = native;
  return {
    lower: native.lower.map(ref),
    dataOnlyLower: native.dataOnlyLower.map(ref),
    ...(upper === undefined ? {} : { upper: ref(upper) }),
    ...(work === undefined ? {} : { work: ref(work) }),
    scratch: native.scratch,
    ...(native.scratchSize === undefined ? {} : { scratchSize: native.scratchSize }),
    ...(target === undefined ? {} : { target: ref(target) }),
    options: Object.fromEntries(
      native.options.map(([key, value]) => [
        key,
        value === null ? true : (exactString(value) ?? showRef(value)),
      ]),
    ),
    readonly: native.readonly,
    mountFlags: native.mountFlags,
    propagation,
    source: native.source.toString(),
    rungs: native.rungs,
    degradations: found,
  };
}
