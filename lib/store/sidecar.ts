/**
 * What this package notes of each layer that it makes, in a file that Docker's drivers ignore.
 * @module
 */
import { readFileSync } from 'node:fs';
import type { Entry } from './entry.ts';
import { isId } from './ids.ts';
import type { Durability, LayerKind, StoreDriver } from './types.ts';

/** Its name in a layer's directory; mode 0600. */
export const sidecarName = 'overlayfs.json';

/** What it records. */
export interface Sidecar {
  readonly version: 1;
  readonly driver: StoreDriver;
  readonly id: string;
  readonly kind: LayerKind;
  /** The parents, nearest first. */
  readonly chain: readonly string[];
  /** `empty`: nothing has been applied to it; `filled`: its content is whole. */
  readonly state: 'empty' | 'filled';
  readonly durability: Durability;
  /** /proc/sys/kernel/random/boot_id when this was written: what was not durable may be lost after another. */
  readonly bootId: string;
}

export const encodeSidecar = (sidecar: Sidecar): string => `${JSON.stringify(sidecar)}\n`;

/** Reads it; undefined where there is none, or none that makes sense for this layer. */
export function decodeSidecar(entry: Entry | undefined, id: string): Sidecar | undefined {
  if (entry?.type !== 'file' || entry.errno !== 0) return undefined;
  try {
    const sidecar: Partial<Sidecar> = JSON.parse(entry.bytes.toString());
    const { version, kind, chain, state, durability, bootId } = sidecar;
    const sound =
      version === 1 &&
      sidecar.id === id &&
      (kind === 'image' || kind === 'container') &&
      (state === 'empty' || state === 'filled') &&
      Array.isArray(chain) &&
      chain.every((parent) => typeof parent === 'string' && isId(parent)) &&
      typeof durability === 'string' &&
      typeof bootId === 'string';
    return sound ? (sidecar as Sidecar) : undefined;
  } catch {
    return undefined;
  }
}

/** Whether one is there that cannot be made sense of: nothing says any more what the layer is. */
export function hasDamagedSidecar({
  entries,
  sidecar,
}: {
  readonly entries: ReadonlyMap<string, Entry>;
  readonly sidecar: Sidecar | undefined;
}): boolean {
  return sidecar === undefined && (entries.get(sidecarName)?.type ?? 'missing') !== 'missing';
}

/** What is wrong then. */
export const damagedSidecar = `\`${sidecarName}\` makes no sense, and nothing else tells what the layer is`;

let known: string | undefined;

/** The id of this boot. */
export function bootId(): string {
  known ??= readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
  return known;
}
