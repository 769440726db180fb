/**
 * The option string that mount(8) hands to a helper, read as util-linux and the kernel read it, and the plan that does with
 * it exactly what the kernel would: no defaults of ours, no checks. Pure.
 * @module
 */
import { type ErrorCode, errorCodes, errorFinding } from '../errors.ts';
import type { KernelFeatures, MountFlag, NativePlan, Propagation, RemountFlag } from '../native/binding.ts';
import { absolutePath } from '../paths.ts';
import type { Finding } from '../types.ts';
import { contradictions } from './contradictions.ts';
import { chooseRungs } from './plan.ts';
import { settle } from './settle.ts';

/** What an option string says. */
export interface OptionString {
  readonly remount: boolean;
  /** Of the mount and of every superblock; `readonly` is the mount's own. */
  readonly flags: readonly RemountFlag[];
  /** Of the superblock. */
  readonly readonly: boolean;
  readonly propagation?: Propagation;
  readonly lower: readonly Buffer[];
  readonly dataOnlyLower: readonly Buffer[];
  readonly upper?: Buffer;
  readonly work?: Buffer;
  /** The layers are written as the kernel takes none: their words are in `options`, for it to refuse. */
  readonly malformed: boolean;
  /** What is left is the kernel's to know, and to refuse. */
  readonly options: readonly (readonly [key: string, value: Buffer | null])[];
}

/** Meant for mount(8), for systemd or for nobody: what the kernel is never told, or has nothing to do with here. */
const ignored =
  /^(defaults|(no)?auto|(no)?users?|(no)?owner|(no)?group|_netdev|nofail|(no)?iversion|silent|loud|comment|u?helper|[xX]-.*)$/;

const flagWords: ReadonlyMap<string, readonly [flag: RemountFlag, set: boolean]> = new Map([
  ...opposites('nosuid', 'suid'),
  ...opposites('nodev', 'dev'),
  ...opposites('noexec', 'exec'),
  ...opposites('noatime', 'atime'),
  ...opposites('nodiratime', 'diratime'),
  ...opposites('relatime', 'norelatime'),
  ...opposites('strictatime', 'nostrictatime'),
  ...opposites('nosymfollow', 'symfollow'),
  ...opposites('sync', 'async'),
  ...opposites('dirsync', 'nodirsync'),
  ...opposites('mand', 'nomand'),
  ...opposites('lazytime', 'nolazytime'),
  ['bind', ['bind', true]],
]);

/** Of every superblock: options for fsconfig(2). */
const superblockFlags = ['sync', 'dirsync', 'mand', 'lazytime'] as const;
const mountFlags = [
  'nosuid',
  'nodev',
  'noexec',
  'noatime',
  'nodiratime',
  'strictatime',
  'nosymfollow',
] as const;

/** fsconfig(2) takes no longer value. */
const longestValue = 255;

/** Reads an option string; the later of two words that contradict counts. */
export function readOptionString(text: Buffer): OptionString {
  const flags = new Set<RemountFlag>();
  const layers = new LayerWords();
  const options: [string, Buffer | null][] = [];
  let [remount, readonly] = [false, false];
  let propagation: Propagation | undefined;
  for (const [key, value] of words(text.toString('latin1'))) {
    const flag = flagWords.get(key);
    const moving = /^r?(private|slave|shared|unbindable)$/.exec(key)?.[1] as Propagation | undefined;
    if (ignored.test(key)) continue;
    if (key === 'remount') remount = true;
    else if (isReadonlyWord(key, value)) {
      const set = key === 'ro';
      if (value !== 'fs') flags[set ? 'add' : 'delete']('readonly');
      if (value !== 'vfs') readonly = set;
    } else if (flag !== undefined && value === undefined) flags[flag[1] ? 'add' : 'delete'](flag[0]);
    else if (moving !== undefined && value === undefined) propagation = moving;
    else if (!layers.take(key, value)) options.push([key, bytes(value)]);
  }
  return {
    remount,
    flags: [...flags],
    readonly,
    ...(propagation === undefined ? {} : { propagation }),
    ...layers.result(options),
  };
}

/** What is wrong with the layers as an option string gives them, where a mount has failed and the kernel said nothing. */
export function layerProblems(read: OptionString, features: KernelFeatures): Finding[] {
  if (read.malformed) {
    const detail =
      'the layers are not written as the kernel takes them: in lowerdir one colon stands between two of them and two before a data-only one, which come last; lowerdir+ and datadir+ do not follow lowerdir';
    return [errorFinding('ERR_OVERLAY_OPTION_VALUE', detail, 'Correct it; a colon in a name is written \\:')];
  }
  const { lower, dataOnlyLower, upper, work } = read;
  const layers = {
    lower,
    dataOnlyLower,
    ...(upper === undefined ? {} : { upper }),
    ...(work === undefined ? {} : { work }),
  };
  return contradictions(layers, settle(layers, features, false), features).filter(
    ({ code }) => errorCodes[code as ErrorCode] === 'kernel',
  );
}

/** The plan that does with an option string what the kernel does with it. */
export function exactPlan(
  { flags, readonly, propagation, lower, dataOnlyLower, upper, work, options }: OptionString,
  { source, target, features }: { source: Buffer; target: Buffer; features: KernelFeatures },
): NativePlan {
  const long = [source, ...options.map(([, value]) => value)].some(
    (value) => value !== null && value.length > longestValue,
  );
  return {
    policy: false,
    lower,
    dataOnlyLower,
    ...(upper === undefined ? {} : { upper }),
    ...(work === undefined ? {} : { work }),
    scratch: false,
    emptyLower: false,
    options: [
      ...superblockFlags.filter((flag) => flags.includes(flag)).map((flag) => [flag, null] as const),
      ...options,
    ],
    source,
    readonly,
    mountFlags: sentMountFlags(flags),
    ...(propagation === undefined ? {} : { propagation }),
    target,
    mkdirTarget: false,
    rungs: chooseRungs({ target, mountApi: long ? 'mount' : 'auto' }, features),
    detachedLayers: features.detachedLayers,
    checkInUse: false,
    removeVolatileMarker: false,
    requireXattrs: false,
    xattrPrefix: 'trusted.overlay.',
    keepUpperForSync: false,
    needsFileHandles: false,
    canTellInUse: false,
    keepOnExit: true,
  };
}

// mount(2) takes noatime and strictatime together, and the latter counts; fsmount(2) refuses the two.
function sentMountFlags(flags: readonly RemountFlag[]): MountFlag[] {
  const strict = flags.includes('strictatime');
  const sent: MountFlag[] = mountFlags.filter(
    (flag) => flags.includes(flag) && !(strict && flag === 'noatime'),
  );
  return flags.includes('readonly') ? ['readonly', ...sent] : sent;
}

type LayersRead = Pick<OptionString, 'lower' | 'dataOnlyLower' | 'upper' | 'work' | 'malformed' | 'options'>;
type LayerKey = 'lowerdir' | 'lowerdir+' | 'datadir+' | 'upperdir' | 'workdir';

/**
 * The layers, as the kernel collects them: `lowerdir` begins anew, `lowerdir+` and `datadir+` append and are taken as they
 * are, without escapes. What the kernel refuses is left in its words, so that it is the one to refuse it.
 */
class LayerWords {
  #lower: string[] = [];
  #dataOnlyLower: string[] = [];
  readonly #writable: { upperdir?: string; workdir?: string } = {};
  readonly #words: [LayerKey, string | undefined][] = [];
  #joined = false;
  #refused = false;

  take(key: string, value: string | undefined): boolean {
    if (key === 'upperdir' || key === 'workdir') {
      if (!value) return false;
      this.#writable[key] = withoutEscapes(value);
    } else if (key === 'lowerdir' || key === 'lowerdir+' || key === 'datadir+') {
      this.#words.push([key, value]);
      if (value === undefined) this.#refused = true;
      else if (key === 'lowerdir') this.#join(value);
      else this.#append(key, value);
    } else return false;
    return true;
  }

  result(others: OptionString['options']): LayersRead {
    const { upperdir, workdir } = this.#writable;
    const path = (name: string) => absolutePath(Buffer.from(name, 'latin1'), 'layer');
    const refused = this.#refused || [...this.#lower, ...this.#dataOnlyLower].includes('');
    return {
      lower: refused ? [] : this.#lower.map(path),
      dataOnlyLower: refused ? [] : this.#dataOnlyLower.map(path),
      ...(upperdir === undefined ? {} : { upper: path(upperdir) }),
      ...(workdir === undefined ? {} : { work: path(workdir) }),
      malformed: refused,
      options: refused
        ? [...others, ...this.#words.map(([key, value]) => [key, bytes(value)] as const)]
        : others,
    };
  }

  #join(value: string): void {
    const split = splitLowerdir(value);
    if (split === undefined) this.#refused = true;
    else {
      this.#lower = split.lower;
      this.#dataOnlyLower = split.dataOnlyLower;
      this.#joined = value !== '';
    }
  }

  #append(key: 'lowerdir+' | 'datadir+', value: string): void {
    const outOfOrder = key === 'lowerdir+' && this.#dataOnlyLower.length > 0;
    if (this.#joined || outOfOrder) this.#refused = true;
    else (key === 'lowerdir+' ? this.#lower : this.#dataOnlyLower).push(value);
  }
}

/** `a:b::c`: a colon ends a layer, two begin a data-only one, a backslash takes the next byte as it is. */
function splitLowerdir(value: string): { lower: string[]; dataOnlyLower: string[] } | undefined {
  const split = { lower: [] as string[], dataOnlyLower: [] as string[] };
  let layers = split.lower;
  for (const [, colons = '', name = ''] of value.matchAll(/(:*)((?:\\.|[^:\\]|\\$)*)/gs)) {
    if (colons === '' && name === '') break;
    const first = split.lower.length === 0;
    const dataOnly = colons === '::';
    // Data-only layers come last, and every colon stands between two names.
    const refused = first
      ? colons !== ''
      : name === '' || colons.length > 2 || (!dataOnly && layers !== split.lower);
    if (refused) return undefined;
    if (dataOnly) layers = split.dataOnlyLower;
    layers.push(withoutEscapes(name));
  }
  return split;
}

/** Split at commas; a backslash takes the next byte along, and stays. Security contexts alone may be in quotation marks. */
function* words(text: string): Generator<[key: string, value: string | undefined]> {
  const word = /(?<=^|,)(?:(?:fs|def|root)?context="[^"]*"|(?:\\.|[^,\\]|\\$)+)/gs;
  for (const [one] of text.matchAll(word)) {
    const equals = one.indexOf('=');
    if (equals === 0) continue;
    if (equals < 0) yield [one, undefined];
    else {
      const [key, value] = [one.slice(0, equals), one.slice(equals + 1)];
      yield [key, key.endsWith('context') ? value.replaceAll('"', '') : value];
    }
  }
}

const isReadonlyWord = (key: string, value: string | undefined) =>
  (key === 'ro' || key === 'rw') && (value === undefined || ['vfs', 'fs', 'recursive'].includes(value));

const withoutEscapes = (text: string) => text.replace(/\\(.?)/gs, '$1');
const bytes = (value: string | undefined) => (value === undefined ? null : Buffer.from(value, 'latin1'));

function opposites(flag: RemountFlag, opposite: string): [string, [RemountFlag, boolean]][] {
  return [
    [flag, [flag, true]],
    [opposite, [flag, false]],
  ];
}
