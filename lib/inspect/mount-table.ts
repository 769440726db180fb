/**
 * The overlays that are mounted in this mount namespace, with their layers and options as the kernel shows them.
 * @module
 */

import { binding } from '../addon.ts';
import type { Binding, MountFlag, NativeMountInfo, Propagation } from '../native/binding.ts';
import { explained } from '../native-errors.ts';
import { exactString, showPath } from '../paths.ts';
import { type OwnerTag, parseOwner, unownedSource } from './owner.ts';

/** A layer as a mount table names it. */
export interface ListedLayer {
  /** For people; bytes that are not UTF-8 are shown as `\xNN`. */
  readonly path: string;
  readonly pathBytes: Buffer;
  /**
   * Set when the name means nothing here: it is relative, it names a descriptor of the process that mounted it, or it is
   * `/`, as layers on detached mounts are shown. Such a name must not be opened.
   */
  readonly unresolved?: 'relative' | 'descriptor' | 'detached';
}

/** An overlay in the mount table. */
export interface MountedOverlay {
  /** Never used again while the system runs, where the kernel has such ids (Linux 6.8); see `uniqueIds`. */
  readonly mountId: bigint;
  readonly parentId: bigint;
  readonly uniqueIds: boolean;
  /** For people; `targetBytes` are the bytes. */
  readonly target: string;
  readonly targetBytes: Buffer;
  readonly source: string;
  /** `own`: a handle of this process; `overlayfs`: made by this package elsewhere; `foreign`: anybody's. */
  readonly owner: 'own' | 'overlayfs' | 'foreign';
  /** The process that the source names, whether it lives or not. */
  readonly process?: OwnerTag;
  readonly lower: readonly ListedLayer[];
  readonly dataOnlyLower: readonly ListedLayer[];
  readonly upper?: ListedLayer;
  readonly work?: ListedLayer;
  /** The other options of the superblock, by the kernel's own names; flags are `true`. */
  readonly options: Readonly<Record<string, string | true>>;
  /** Whether the superblock is read-only; the mount's own flag is in `mountFlags`. */
  readonly readonly: boolean;
  readonly mountFlags: readonly MountFlag[];
  readonly propagation: readonly Propagation[];
}

/**
 * Lists the overlays that are mounted in this process's mount namespace, in mounting order. Detached ones are in no
 * table, and so not here.
 *
 * Rests on listmount(2) and statmount(2), or proc_pid_mountinfo(5) where those are missing.
 *
 * @example
 * ```ts
 * import { listOverlays } from 'overlayfs';
 *
 * for (const { target, upper, owner } of await listOverlays()) console.log(target, upper?.path, owner);
 * ```
 */
export async function listOverlays(): Promise<MountedOverlay[]> {
  return readMountTable('auto');
}

/** The same from one source: `mountinfo` reads /proc/self/mountinfo even where statmount(2) is to be had. */
export async function readMountTable(from: 'auto' | 'mountinfo'): Promise<MountedOverlay[]> {
  const mounts = await explained(binding().listOverlays(from === 'mountinfo'), 'the mount table');
  return mounts.map((mount) => mountedOverlay(mount, mount.own));
}

/** The overlays of other mount namespaces, as far as /proc shows them; what names mean there, they mean below /proc/PID/root. */
export async function overlaysElsewhere(): ReturnType<Binding['overlaysElsewhere']> {
  return explained(binding().overlaysElsewhere(), 'the mount tables of other namespaces');
}

function mountedOverlay(mount: NativeMountInfo, own: boolean): MountedOverlay {
  const source = showPath(mount.source);
  const process = parseOwner(source);
  const tagged = process !== undefined || source === unownedSource;
  return {
    mountId: mount.mountId,
    parentId: mount.parentId,
    uniqueIds: mount.uniqueIds,
    target: showPath(mount.point),
    targetBytes: mount.point,
    source,
    owner: own ? 'own' : tagged ? 'overlayfs' : 'foreign',
    ...(process === undefined ? {} : { process }),
    ...parseOverlayOptions(mount.options),
    readonly: mount.superblockReadonly,
    mountFlags: mount.mountFlags,
    propagation: mount.propagation,
  };
}

type ParsedOptions = Pick<MountedOverlay, 'lower' | 'dataOnlyLower' | 'upper' | 'work' | 'options'>;

/**
 * Reads the option string of an overlay as the kernel shows it: split at commas (one inside a name is `\054`), octal
 * escapes undone, then `lowerdir=` split at colons as overlayfs itself splits it.
 */
export function parseOverlayOptions(shown: Buffer): ParsedOptions {
  const lower: ListedLayer[] = [];
  const dataOnlyLower: ListedLayer[] = [];
  const options: Record<string, string | true> = {};
  let upper: Buffer | undefined;
  let work: Buffer | undefined;
  let asWritten = false;
  for (const word of shown.toString('latin1').split(',')) {
    if (word === '') continue;
    const equals = word.indexOf('=');
    const key = equals < 0 ? word : word.slice(0, equals);
    const value = Buffer.from(unescapeOctal(word.slice(equals + 1)), 'latin1');
    if (equals < 0) options[key] = true;
    else if (key === 'lowerdir+') lower.push(layer(value));
    else if (key === 'datadir+') dataOnlyLower.push(layer(value));
    else if (key === 'upperdir') upper = value;
    else if (key === 'workdir') work = value;
    else if (key === 'lowerdir') {
      asWritten = true;
      const split = splitLowerdir(value);
      lower.push(...split.lower);
      dataOnlyLower.push(...split.dataOnlyLower);
    } else options[key] = exactString(value) ?? showPath(value);
  }
  // With `lowerdir=` the names are shown as they were written, with the escapes that mount(2) asks for; with `lowerdir+`
  // they were given as descriptors or plainly.
  const writable = (name: Buffer) => layer(asWritten ? Buffer.from(withoutEscapes(name), 'latin1') : name);
  return {
    lower,
    dataOnlyLower,
    ...(upper === undefined ? {} : { upper: writable(upper) }),
    ...(work === undefined ? {} : { work: writable(work) }),
    options,
  };
}

// A colon ends a layer, two begin the data-only layers; a backslash takes the next byte as it is.
function splitLowerdir(value: Buffer): Pick<ParsedOptions, 'lower' | 'dataOnlyLower'> {
  const layers: { text: string; dataOnly: boolean }[] = [];
  let text = '';
  let dataOnly = false;
  const characters = value.toString('latin1');
  for (let i = 0; i < characters.length; i++) {
    const character = characters[i];
    if (character === '\\' && i + 1 < characters.length) text += characters[++i];
    else if (character !== ':') text += character;
    else {
      layers.push({ text, dataOnly });
      text = '';
      dataOnly = characters[i + 1] === ':';
      if (dataOnly) i++;
    }
  }
  layers.push({ text, dataOnly });
  const listed = (wanted: boolean) =>
    layers.filter((l) => l.dataOnly === wanted).map((l) => layer(Buffer.from(l.text, 'latin1')));
  return { lower: listed(false), dataOnlyLower: listed(true) };
}

function layer(pathBytes: Buffer): ListedLayer {
  const path = showPath(pathBytes);
  const unresolved = whyUnresolved(pathBytes.toString('latin1'));
  return { path, pathBytes, ...(unresolved === undefined ? {} : { unresolved }) };
}

function whyUnresolved(path: string): ListedLayer['unresolved'] {
  if (/^(\/proc\/(thread-)?self\/|\/proc\/[^/]+\/fd\/|\/dev\/fd\/|\d+$)/.test(path)) return 'descriptor';
  if (!path.startsWith('/')) return 'relative';
  // A layer on a detached mount is shown as if that were the root; these are the names in our own scratch.
  return /^\/(overlayfs-scratch-[a-z]+)?$/.test(path) ? 'detached' : undefined;
}

const withoutEscapes = (name: Buffer) => name.toString('latin1').replace(/\\(.)/gs, '$1');

function unescapeOctal(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
}
