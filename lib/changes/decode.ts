/**
 * Changes out of packed records, read when they are asked for.
 * @module
 */
import type { FileHandle } from 'node:fs/promises';
import type { FileType } from '../layer/file-type.ts';
import { layerPlace } from '../layer/place.ts';
import { showPath } from '../paths.ts';
import type { Change, ChangeField, ChangeKind, ChangeSource } from './change.ts';
import { type ChangeOrigin, origin } from './origin.ts';

/** The kinds, by their numbers in records. */
export const changeKinds: readonly ChangeKind[] = [
  'added',
  'modified',
  'metadata',
  'deleted',
  'replaced',
  'renamed',
];
const types: readonly FileType[] = ['file', 'directory', 'symlink', 'block', 'character', 'fifo', 'socket'];
const fields: readonly ChangeField[] = ['mode', 'uid', 'gid', 'mtime', 'size', 'content', 'target', 'rdev'];

// struct Packed of native/core/change_record.cc: in words of four bytes, and of eight.
const WORDS = 16;
const LONGS = 8;
const [SIZE, PREVIOUS_SIZE, ALLOCATED, LINK_GROUP] = [0, 1, 2, 3];
const [AT, PATH, FROM, SOURCE_PATH, XATTRS, FIELDS, LAYER, BYTES] = [8, 9, 10, 11, 12, 13, 14, 15];
const HAS = { from: 1 << 24, previousSize: 2 << 24, linkGroup: 4 << 24, sourcePath: 8 << 24 } as const;
const NO_LAYER = 0xffffffff;
const INDEX_LAYER = 0xfffffffe;

/** Opens what a source names: layers by the kernel's numbers, -1 the index. */
export type OpenSource = (layer: number, path: Buffer) => Promise<FileHandle>;

/** One batch of records. */
export class ChangeBatch {
  readonly #words: Uint32Array;
  readonly #longs: BigUint64Array;
  readonly #texts: Buffer;
  readonly #length: number;
  readonly origin: ChangeOrigin;
  readonly open: OpenSource;

  constructor(length: number, records: Buffer, origin: ChangeOrigin, open: OpenSource) {
    this.#length = length;
    this.origin = origin;
    this.open = open;
    // The machine's own byte order on both sides.
    this.#words = new Uint32Array(records.buffer, records.byteOffset, length * WORDS);
    this.#longs = new BigUint64Array(records.buffer, records.byteOffset, length * LONGS);
    this.#texts = records.subarray(length * WORDS * 4);
  }

  /** The changes, each a few words until it is read. */
  changes(): Change[] {
    const all = new Array<Change>(this.#length);
    for (let index = 0; index < this.#length; index++) all[index] = new PackedChange(this, index);
    return all;
  }

  word(index: number, field: number): number {
    return this.#words[index * WORDS + field] as number;
  }

  long(index: number, field: number): bigint {
    return this.#longs[index * LONGS + field] as bigint;
  }

  /** The texts of a record follow each other: path, from, source path, names of attributes. */
  text(index: number, field: number): Buffer {
    let start = this.word(index, AT);
    for (let before = PATH; before < field; before++) start += this.word(index, before);
    return this.#texts.subarray(start, start + this.word(index, field));
  }

  /** The path, without a Buffer of its own where its bytes are UTF-8. */
  path(index: number): string {
    const start = this.word(index, AT);
    const end = start + this.word(index, PATH);
    const text = this.#texts.toString('utf8', start, end);
    return text.includes('\ufffd') ? showPath(this.#texts.subarray(start, end)) : text;
  }
}

class PackedChange implements Change {
  readonly #batch: ChangeBatch;
  readonly #index: number;

  constructor(batch: ChangeBatch, index: number) {
    this.#batch = batch;
    this.#index = index;
  }

  get path(): string {
    return this.#batch.path(this.#index);
  }
  get pathBytes(): Buffer {
    return Buffer.from(this.#batch.text(this.#index, PATH));
  }
  get kind(): ChangeKind {
    return changeKinds[this.#bytes & 0xff] as ChangeKind;
  }
  get type(): FileType {
    return types[(this.#bytes >> 8) & 0xff] as FileType;
  }
  get previousType(): FileType | undefined {
    return types[(this.#bytes >> 20) & 0xf];
  }
  get replaces(): FileType | undefined {
    return types[(this.#bytes >> 16) & 0xf];
  }
  get from(): string | undefined {
    return this.#has(HAS.from) ? showPath(this.#batch.text(this.#index, FROM)) : undefined;
  }
  get fromBytes(): Buffer | undefined {
    return this.#has(HAS.from) ? Buffer.from(this.#batch.text(this.#index, FROM)) : undefined;
  }
  get fields(): readonly string[] {
    const bits = this.#batch.word(this.#index, FIELDS);
    const names = this.#batch.text(this.#index, XATTRS);
    return [
      ...fields.filter((_, bit) => (bits & (1 << bit)) !== 0),
      ...(names.length === 0 ? [] : showPath(names).split('\0').slice(0, -1)),
    ];
  }
  get size(): bigint {
    return this.#batch.long(this.#index, SIZE);
  }
  get previousSize(): bigint | undefined {
    return this.#has(HAS.previousSize) ? this.#batch.long(this.#index, PREVIOUS_SIZE) : undefined;
  }
  get allocatedBytes(): bigint {
    return this.#batch.long(this.#index, ALLOCATED);
  }
  get linkGroup(): bigint | undefined {
    return this.#has(HAS.linkGroup) ? this.#batch.long(this.#index, LINK_GROUP) : undefined;
  }
  get source(): ChangeSource | undefined {
    const word = this.#batch.word(this.#index, LAYER);
    if (word === NO_LAYER) return undefined;
    const layer = word === INDEX_LAYER ? -1 : word;
    const path = Buffer.from(this.#batch.text(this.#index, this.#has(HAS.sourcePath) ? SOURCE_PATH : PATH));
    const { open, origin } = this.#batch;
    return {
      ...layerPlace({ layer, path }, origin.stack, { roots: [], work: Buffer.alloc(0) }),
      open: () => open(layer, path),
    };
  }

  get [origin](): ChangeOrigin {
    return this.#batch.origin;
  }

  /** Every property that is there, for JSON and for looking at. */
  toJSON(): Omit<Change, 'source'> & { readonly source?: Omit<ChangeSource, 'open'> } {
    const { kind, path, pathBytes, type, previousType, replaces, from, fromBytes } = this;
    const { fields, size, previousSize, allocatedBytes, linkGroup, source } = this;
    const { open: _, ...place } = source ?? { open: undefined };
    return {
      kind,
      path,
      pathBytes,
      type,
      ...(previousType === undefined ? {} : { previousType }),
      ...(replaces === undefined ? {} : { replaces }),
      ...(from === undefined || fromBytes === undefined ? {} : { from, fromBytes }),
      fields,
      size,
      ...(previousSize === undefined ? {} : { previousSize }),
      allocatedBytes,
      ...(linkGroup === undefined ? {} : { linkGroup }),
      ...(source === undefined ? {} : { source: place as Omit<ChangeSource, 'open'> }),
    };
  }

  [Symbol.for('nodejs.util.inspect.custom')](): unknown {
    return this.toJSON();
  }

  get #bytes(): number {
    return this.#batch.word(this.#index, BYTES);
  }
  #has(bit: number): boolean {
    return (this.#bytes & bit) !== 0;
  }
}
