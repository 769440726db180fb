/**
 * tar-split: what is left of an archive when the content of its files is taken out. Docker's daemon and
 * containers/storage keep it of every layer, and make the archive from it and the layer's directory again, byte for byte.
 * @see https://github.com/vbatts/tar-split
 */
import { gzipSync } from 'node:zlib';

/** One entry of an archive: as many bytes of header, then the data, filled up to whole blocks. */
export interface ArchiveEntry {
  /** As latin1. */
  readonly name: string;
  readonly header: number;
  readonly size: number;
}

const BLOCK = 512;

/** Splits an archive, of which this is a list. */
export function tarSplit(archive: Buffer, entries: readonly ArchiveEntry[]): Buffer {
  const lines: string[] = [];
  const add = (line: object) => lines.push(JSON.stringify({ ...line, position: lines.length }));
  let from = 0;
  let at = 0;
  for (const { name, header, size } of entries) {
    at += header;
    add({ type: 2, payload: archive.subarray(from, at).toString('base64') });
    const content = archive.subarray(at, at + size);
    add({ type: 1, ...named(name), size, payload: size === 0 ? null : crc64(content).toString('base64') });
    from = at + size;
    at = Math.ceil(from / BLOCK) * BLOCK;
  }
  add({ type: 2, payload: archive.subarray(from).toString('base64') });
  return gzipSync(`${lines.join('\n')}\n`);
}

function named(name: string): object {
  const bytes = Buffer.from(name, 'latin1');
  const text = bytes.toString();
  return Buffer.from(text).equals(bytes) ? { name: text } : { name_raw: bytes.toString('base64') };
}

// The polynomial of ISO 3309: of its 64 bits, and those of the table's, all but the highest 16 are 0.
const table = Array.from({ length: 256 }, (_, value) => {
  let low = value;
  let high = 0;
  for (let bit = 0; bit < 8; bit++) {
    const carry = low & 1;
    low = (low >>> 1) | ((high & 1) << 31);
    high = (high >>> 1) ^ (carry ? 0xd8000000 : 0);
  }
  return high;
});

/** Big-endian. */
function crc64(bytes: Buffer): Buffer {
  let [low, high] = [-1, -1];
  for (const byte of bytes) {
    const entry = table[(low ^ byte) & 255] ?? 0;
    low = (low >>> 8) | (high << 24);
    high = (high >>> 8) ^ entry;
  }
  const sum = Buffer.alloc(8);
  sum.writeInt32BE(~high, 0);
  sum.writeInt32BE(~low, 4);
  return sum;
}
