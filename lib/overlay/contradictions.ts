/**
 * The rules that need only the options: what can be seen wrong before anything is opened.
 * @module
 */
import { constants } from 'node:os';
import { isMainThread } from 'node:worker_threads';
import { type ErrorCode, errorFinding } from '../errors.ts';
import type { KernelFeatures } from '../native/binding.ts';
import type { Finding } from '../types.ts';
import type { CheckedOptions } from './options.ts';
import type { SettledOptions } from './settle.ts';

/** OVL_MAX_STACK: the kernel takes no more lowers, data-only layers counted. */
export const mostLowers = 500;

/** Longer values are EINVAL in fsconfig(2), with nothing in its log. */
const longestValue = 255;

interface OptionRule {
  readonly code: ErrorCode;
  readonly applies: (o: CheckedOptions, settled: SettledOptions, features: KernelFeatures) => boolean;
  readonly detail: string | ((o: CheckedOptions) => string);
  readonly fix: string;
}

const rules: readonly OptionRule[] = [
  {
    code: 'ERR_OVERLAY_NO_LOWER',
    applies: (o) => o.lower.length === 0 && o.dataOnlyLower.length === 0,
    detail: 'no lower layer is given',
    fix: 'Give at least one lower; an empty directory will do',
  },
  {
    code: 'ERR_OVERLAY_NO_REGULAR_LOWER',
    applies: (o) => o.lower.length === 0 && o.dataOnlyLower.length > 0,
    detail: 'every lower is data-only, and the kernel wants one that has names',
    fix: 'Give at least one lower in `lower`',
  },
  {
    code: 'ERR_OVERLAY_TOO_MANY_LOWERS',
    applies: (o) => o.lower.length + o.dataOnlyLower.length > mostLowers,
    detail: (o) =>
      `${o.lower.length + o.dataOnlyLower.length} lowers are given; the kernel takes ${mostLowers}`,
    fix: 'Merge some layers into one',
  },
  {
    code: 'ERR_OVERLAY_WORK_MISSING',
    applies: (o) => o.upper !== undefined && o.work === undefined,
    detail: 'an upper is given without a work directory',
    fix: 'Give `work`: an empty directory on the same mount as the upper',
  },
  {
    code: 'ERR_OVERLAY_UPPER_MISSING',
    applies: (o) => o.upper === undefined && o.work !== undefined,
    detail: 'a work directory is given without an upper',
    fix: 'Give `upper` too, or neither for a read-only overlay',
  },
  {
    code: 'ERR_OVERLAY_OPTIONS_CONTRADICT',
    applies: (o) => o.scratch !== undefined && (o.upper !== undefined || o.work !== undefined),
    detail: 'scratch stands in place of upper and work, and one of those is given too',
    fix: 'Leave out scratch, or upper and work',
  },
  {
    code: 'ERR_OVERLAY_SINGLE_LOWER',
    applies: (o, settled) => settled.needsSecondLower && o.allowSingleLower !== true,
    detail: 'the kernel takes no single lower without an upper',
    fix: 'Give a second lower, or an upper and a work directory, or set allowSingleLower',
  },
  conflict(
    (o, s) => s.metacopy && o.redirectDir === 'nofollow',
    "metacopy needs redirects, and redirectDir is 'nofollow'",
    "Set redirectDir to 'on', or leave one of the two out",
  ),
  conflict(
    (o, s) => s.metacopy && s.writable && o.redirectDir === 'follow',
    "metacopy with an upper must record redirects, and redirectDir is 'follow'",
    "Set redirectDir to 'on', or leave one of the two out",
  ),
  conflict(
    (_, s) => s.writable && s.nfsExport && s.metacopy,
    'nfsExport and metacopy exclude each other',
    'Leave one of them out',
  ),
  conflict(
    (o, s) => (s.writable || s.redirectDir === 'nofollow') && o.nfsExport === true && o.index === false,
    'nfsExport needs index, and index is false',
    'Leave index out: nfsExport turns it on',
  ),
  conflict(
    (o, s) => s.userxattr && o.metacopy === true,
    'userxattr and metacopy exclude each other',
    'Leave one of them out; inside a user namespace, metacopy',
  ),
  conflict(
    (o, s) => s.userxattr && (o.redirectDir === 'on' || o.redirectDir === 'follow'),
    "with userxattr no redirects are honoured, and redirectDir is not 'nofollow'",
    "Leave redirectDir out, or set it to 'nofollow'",
  ),
  contradiction(
    (o) => o.mkdirTarget === true && o.target === undefined,
    'mkdirTarget is set without a target',
    'Give a target',
  ),
  contradiction(
    (o) => o.keepOnExit === true && o.target === undefined,
    'a detached view goes with its descriptor, so it cannot be kept on exit',
    'Give a target, or leave keepOnExit out',
  ),
  contradiction(
    (o) => o.removeVolatileMarker === true && o.work === undefined,
    'removeVolatileMarker is set without a work directory',
    'Give upper and work, or leave it out',
  ),
  contradiction(
    ({ mountFlags }) =>
      [mountFlags?.noatime, mountFlags?.relatime, mountFlags?.strictatime].filter(Boolean).length > 1,
    'of noatime, relatime and strictatime more than one is set',
    'Set one of them',
  ),
  {
    code: 'ERR_OVERLAY_SIGNALS_IN_WORKER',
    applies: (o) => (o.unmountOnSignals?.length ?? 0) > 0 && !isMainThread,
    detail: 'signals are not delivered to worker threads, so unmountOnSignals cannot work here',
    fix: 'Mount in the main thread; what a worker has mounted is unmounted when the worker ends',
  },
  {
    code: 'ERR_OVERLAY_OPTION_TOO_LONG',
    applies: (o, _, features) =>
      features.fsopenErrno === 0 && o.mountApi !== 'mount' && longValues(o).length > 0,
    detail: (o) => `${longValues(o)[0]} is longer than ${longestValue} bytes, which fsconfig(2) refuses`,
    fix: "Shorten it, or set mountApi to 'mount'",
  },
  {
    code: 'ERR_OVERLAY_NO_DETACHED',
    applies: (o, _, features) =>
      o.target === undefined && (o.mountApi === 'mount' || features.fsopenErrno === -constants.errno.ENOSYS),
    detail: 'a detached view needs fsopen(2), which is not to be had here',
    fix: 'Give a target; detached views need Linux 5.2 and a mountApi other than mount',
  },
  {
    code: 'ERR_OVERLAY_MOUNT_API_UNAVAILABLE',
    applies: (o, _, features) =>
      o.mountApi === 'fsconfig' && features.fsopenErrno === -constants.errno.ENOSYS,
    detail: "mountApi is 'fsconfig', and this kernel has no fsopen(2)",
    fix: "Leave mountApi out, or set it to 'mount'",
  },
];

/** Everything that contradicts in these options, most telling first. */
export function contradictions(
  options: CheckedOptions,
  settled: SettledOptions,
  features: KernelFeatures,
): Finding[] {
  return rules
    .filter((rule) => rule.applies(options, settled, features))
    .map(({ code, detail, fix }) =>
      errorFinding(code, typeof detail === 'string' ? detail : detail(options), fix),
    );
}

function conflict(applies: OptionRule['applies'], detail: string, fix: string): OptionRule {
  return { code: 'ERR_OVERLAY_OPTIONS_CONFLICT', applies, detail, fix };
}

function contradiction(applies: OptionRule['applies'], detail: string, fix: string): OptionRule {
  return { code: 'ERR_OVERLAY_OPTIONS_CONTRADICT', applies, detail, fix };
}

function longValues({ source, kernelOptions }: CheckedOptions): string[] {
  const values: [string, string | true | undefined][] = [
    ['source', source],
    ...Object.entries(kernelOptions ?? {}).map(([key, value]): [string, string | true] => [
      `kernelOptions.${key}`,
      value,
    ]),
  ];
  return values
    .filter(([, value]) => typeof value === 'string' && Buffer.byteLength(value) > longestValue)
    .map(([name]) => name);
}
