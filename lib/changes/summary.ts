/**
 * A change set in short, for people who decide whether to keep it: what is gone first, and never cut.
 * @module
 */
import { integer } from '../arguments.ts';
import type { MountedOverlay } from '../inspect/mount-table.ts';
import type { FileType } from '../layer/file-type.ts';
import type { LayerSource, LayerStack } from '../types.ts';
import type { Change } from './change.ts';
import { type ChangeOptions, changes } from './changes.ts';
import type { ChangeResult } from './stream.ts';

/** What to sum up. */
export interface SummaryOptions extends Omit<ChangeOptions, 'order'> {
  /** How many of the biggest files to name; 10 by default. */
  readonly biggest?: number;
}

/** A path of a summary; `pathBytes` are the bytes. */
export interface SummaryPath {
  readonly path: string;
  readonly pathBytes: Buffer;
  /** What was there before. */
  readonly type: FileType;
}

/** A change set in short. */
export interface Summary extends ChangeResult {
  /** Every path that is gone, in byte order; a directory stands for all that it held. */
  readonly deleted: readonly SummaryPath[];
  /** Every path where something else stands now and what was there is gone, not renamed. */
  readonly replaced: readonly SummaryPath[];
  /** In bytes: what the upper has allocated for what is new, or has another content; each inode once. */
  readonly bytesAdded: bigint;
  /**
   * In bytes: what the upper has allocated for files of which only metadata or the name has changed. With `metacopy` it
   * would be next to nothing.
   */
  readonly bytesWasted: bigint;
  /** The files that take most of the upper, biggest first. */
  readonly biggest: readonly { readonly path: string; readonly pathBytes: Buffer; readonly bytes: bigint }[];
}

/**
 * Sums up what {@link changes} tells.
 *
 * @throws OverlayError as `changes()`.
 *
 * @example
 * ```ts
 * import { formatSummary, summarize } from 'overlayfs';
 *
 * const summary = await summarize({ lower: '/srv/base', upper: '/srv/upper', work: '/srv/work' });
 * if (summary.deleted.length > 0) console.log(formatSummary(summary));
 * ```
 */
export async function summarize(
  source: LayerStack | LayerSource | MountedOverlay,
  options: SummaryOptions = {},
): Promise<Summary> {
  const { biggest: most = 10, ...rest } = options;
  integer(0, 1_000_000)(most, 'options.biggest');
  await using stream = changes(source, rest);
  const sums = new Sums(most);
  for await (const batch of stream.batches()) for (const change of batch) sums.add(change);
  return { ...(await stream.done), ...sums.result() };
}

class Sums {
  readonly #most: number;
  readonly #deleted: SummaryPath[] = [];
  readonly #replaced: { readonly path: SummaryPath; readonly place: string }[] = [];
  readonly #moved = new Set<string>();
  readonly #inodes = new Set<bigint>();
  #biggest: { path: string; pathBytes: Buffer; bytes: bigint }[] = [];
  #added = 0n;
  #wasted = 0n;

  constructor(most: number) {
    this.#most = most;
  }

  add(change: Change): void {
    const { kind, previousType, replaces, from, path } = change;
    const gone = kind === 'replaced' ? previousType : replaces;
    if (kind === 'renamed') this.#moved.add(from ?? '');
    if (kind === 'deleted') this.#deleted.push(pathOf(change, change.type));
    else if (gone !== undefined) {
      const place = kind === 'renamed' ? path : (from ?? path);
      this.#replaced.push({ path: pathOf(change, gone), place });
    }
    if (kind !== 'deleted') this.#addBytes(change);
  }

  result(): Omit<Summary, keyof ChangeResult> {
    return {
      deleted: this.#deleted,
      // What was renamed is not gone.
      replaced: this.#replaced.filter(({ place }) => !this.#moved.has(place)).map(({ path }) => path),
      bytesAdded: this.#added,
      bytesWasted: this.#wasted,
      biggest: this.#biggest.sort(bySize).slice(0, this.#most),
    };
  }

  #addBytes(change: Change): void {
    const { linkGroup, allocatedBytes: bytes, type } = change;
    if (linkGroup !== undefined && this.#inodes.has(linkGroup)) return;
    if (linkGroup !== undefined) this.#inodes.add(linkGroup);
    if (type === 'file' && onlyMetadata(change)) this.#wasted += bytes;
    else this.#added += bytes;
    if (type !== 'file' || this.#most === 0) return;
    const least = this.#biggest[this.#most - 1]?.bytes ?? -1n;
    if (bytes <= least) return;
    this.#biggest.push({ path: change.path, pathBytes: change.pathBytes, bytes });
    // Sorted now and then, so that it stays short.
    if (this.#biggest.length >= 2 * this.#most)
      this.#biggest = this.#biggest.sort(bySize).slice(0, this.#most);
  }
}

const bySize = (a: { bytes: bigint }, b: { bytes: bigint }) =>
  a.bytes < b.bytes ? 1 : a.bytes > b.bytes ? -1 : 0;

function pathOf({ path, pathBytes }: Change, type: FileType): SummaryPath {
  return { path, pathBytes, type };
}

function onlyMetadata({ kind, fields }: Change): boolean {
  const content = ['content', 'size', 'mtime'].some((field) => fields.includes(field));
  return kind === 'metadata' || (kind === 'renamed' && !content);
}

/** A summary as text: what is deleted and replaced first and in full, then numbers, then the biggest files. */
export function formatSummary(summary: Summary): string {
  const { deleted, replaced, counts, bytesAdded, bytesWasted, biggest, consistent, errors } = summary;
  const shown = ({ path, type }: SummaryPath) => `  ${printable(path)}${type === 'directory' ? '/' : ''}`;
  const numbers = Object.entries(counts).filter(([, count]) => count > 0);
  return [
    ...(deleted.length === 0 ? [] : [`Deleted (${deleted.length}):`, ...deleted.map(shown)]),
    ...(replaced.length === 0 ? [] : [`Replaced (${replaced.length}):`, ...replaced.map(shown)]),
    numbers.length === 0
      ? 'Nothing has changed.'
      : `Changes: ${numbers.map(([kind, count]) => `${count} ${kind}`).join(', ')}.`,
    ...(bytesAdded === 0n ? [] : [`New data: ${formatBytes(bytesAdded)}.`]),
    ...(bytesWasted === 0n
      ? []
      : [`Copied although only metadata or the name changed: ${formatBytes(bytesWasted)}.`]),
    ...(biggest.length === 0 ? [] : ['Biggest files:']),
    ...biggest.map(({ path, bytes }) => `  ${formatBytes(bytes).padStart(9)}  ${printable(path)}`),
    ...errors.map(({ message }) => `Not looked at: ${printable(message)}`),
    ...(consistent ? [] : ['The upper changed while it was read: this is of no single moment.']),
  ].join('\n');
}

// What would move the cursor is escaped.
function printable(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: those are what is meant
  return text.replace(/[\x00-\x1f\x7f]/g, (c) => `\\x${c.charCodeAt(0).toString(16).padStart(2, '0')}`);
}

/** `1.5 MiB`. */
export function formatBytes(bytes: bigint): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];
  let value = Number(bytes);
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${unit === 0 ? value : value.toFixed(1)} ${units[unit]}`;
}
