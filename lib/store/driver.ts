/**
 * What the storage drivers differ in: where a layer keeps its parts, and how it names its parents. Everything else (ids,
 * locks, crash-safe writing, removal, mounting, counting) is the same for all.
 * @module
 */
import type { StoreDirectory } from './directory.ts';
import type { Entry } from './entry.ts';
import type { Problem } from './problem.ts';
import type { Sidecar } from './sidecar.ts';
import type { Step } from './steps.ts';
import type { FillOptions, LayerKind, StoreDriver } from './types.ts';

/** A layer as it lies on disk, and what was understood of it. */
export interface LayerRecord {
  readonly id: string;
  /** By their names in the layer's directory, as many as the driver's `names`. */
  readonly entries: ReadonlyMap<string, Entry>;
  readonly sidecar: Sidecar | undefined;
  readonly kind: LayerKind | 'unknown';
  readonly readonly: boolean;
}

/** A layer that is to be made. */
export interface LayerDraft {
  readonly id: string;
  readonly kind: LayerKind;
  /** The parents, nearest first. */
  readonly chain: readonly string[];
  readonly parent: LayerRecord | undefined;
}

/** How it is made. */
export interface LayerPlan {
  /** Its content begins as a copy: of a directory below the root, to one in the layer. */
  readonly seed?: { readonly from: string; readonly to: string };
  /** In a directory that nobody else looks at, `at`; it will be renamed to the layer's id. */
  prepare(at: string): readonly Step[];
  /** What must be as it was of the parent for this plan to be right. */
  readonly expect: readonly Step[];
  /** When it is complete, right before it gets its name. */
  readonly publish: readonly Step[];
  /** Takes `publish` back. */
  readonly withdraw: readonly Step[];
}

/** Where a mount finds its layers: paths below the store's root. */
export interface LayerParts {
  readonly lower: readonly string[];
  readonly upper?: string;
  readonly work?: string;
}

/** A layer whose content is being made. */
export interface Filling {
  readonly kind: LayerRecord['kind'];
  /** The parents, nearest first. */
  readonly chain: readonly string[];
  readonly options: FillOptions;
}

/** What is left to do. */
export interface Placing {
  /** Renames and exchanges: after each of them the layer is whole, as before or as it is to be. */
  readonly place: readonly Step[];
  /** Removes what the layer needs no more: check() finds what stays. */
  readonly tidy: readonly Step[];
}

/** One storage driver. */
export interface Driver {
  readonly name: StoreDriver;
  /** Directories beside the layers, with their modes, that an empty store is given. */
  readonly directories: readonly (readonly [name: string, mode: number])[];
  /** What is read of each layer, the sidecar included. */
  readonly names: readonly string[];
  /** Whether a directory with these entries is a layer, damaged or not. */
  isLayer(entries: ReadonlyMap<string, Entry>): boolean;
  record(id: string, entries: ReadonlyMap<string, Entry>): LayerRecord;
  /** The parents, nearest first; throws for what is damaged. */
  chain(directory: StoreDirectory, layer: LayerRecord): Promise<readonly string[]>;
  /** The nearest parent of each of these, all layers of the store: without a look at each one's whole chain. */
  parents(directory: StoreDirectory, layers: readonly LayerRecord[]): Promise<ReadonlyMap<string, string>>;
  create(directory: StoreDirectory, draft: LayerDraft): Promise<LayerPlan>;
  /** What is left of a layer outside its own directory, once that is gone. */
  withdraw(layer: LayerRecord): readonly Step[];
  /** The directory, in the layer's own, that holds the layer's content. */
  content(layer: LayerRecord): string;
  /** The one that it is mounted from: as the upper, or as the topmost lower. */
  mounted(layer: LayerRecord): string;
  /** One that has been linked together from the content and the parents'. */
  tree?(layer: LayerRecord): string | undefined;
  /** What a mount of the layer is made of. */
  parts(layer: LayerRecord, chain: readonly string[]): LayerParts;
  /** What the layer's content is read with: the upper is that, the lowers are what the parents show. */
  difference(
    directory: StoreDirectory,
    layer: LayerRecord,
    chain: readonly string[],
  ): Promise<LayerParts & { readonly upper: string }>;
  /**
   * How content that lies complete at `at`/content gets into the directory of a layer. What takes long is done here, in `at`,
   * which nobody else looks at.
   */
  fill(directory: StoreDirectory, layer: Filling, at: string, into: string): Promise<Placing>;
  /** What is wrong with the driver's own files. */
  problems(directory: StoreDirectory, layers: readonly LayerRecord[]): Promise<Problem[]>;
  /** Whether a directory without our mark, and with these names in it, is a store of this driver. */
  isStore(directory: StoreDirectory, names: readonly string[]): Promise<boolean>;
  /** Names outside the layers that lead to none, or that nothing uses: paths below the root. */
  dangling(
    directory: StoreDirectory,
    allLayers: () => Promise<readonly LayerRecord[]>,
  ): Promise<readonly string[]>;
}

/** The text of an entry that is a file which could be read. */
export function fileText(entry: Entry | undefined): string | undefined {
  return entry?.type === 'file' && entry.errno === 0 ? entry.bytes.toString('latin1') : undefined;
}
