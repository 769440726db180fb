/**
 * Changes as the native side reads them: struct PackedChange of native/binding/apply.cc, one behind the other.
 * @module
 */
import { endianness } from 'node:os';
import type { Change, ChangeKind } from './change.ts';

const HEADER = 24;
const flags = { replaces: 1, fields: 2, directory: 4, from: 8, linked: 16 } as const;
const kinds: Readonly<Record<ChangeKind, number>> = {
  added: 0,
  modified: 1,
  metadata: 2,
  deleted: 3,
  replaced: 4,
  renamed: 5,
};
const little = endianness() === 'LE';

/** All of them in one buffer. `compared`: whether what has been renamed and has no `fields` is as it was. */
export function packChanges(changes: readonly Change[], compared: boolean): Buffer {
  let packed = Buffer.allocUnsafe(Math.max(64, changes.length * 96));
  const header = new DataView(new ArrayBuffer(HEADER));
  const bytes = new Uint8Array(header.buffer);
  let at = 0;
  for (const change of changes) {
    const { kind, fromBytes, linkGroup } = change;
    const whole = change.pathBytes;
    const path = whole.length === 1 && whole[0] === 0x2e ? whole.subarray(1) : whole;
    const fromLength = fromBytes?.length ?? 0;
    const end = at + HEADER + path.length + fromLength;
    if (end > packed.length)
      packed = Buffer.concat([packed, Buffer.allocUnsafe(Math.max(end, packed.length))]);
    header.setUint8(0, kinds[kind]);
    header.setUint8(1, flagsOf(change, compared));
    header.setUint32(4, path.length, little);
    header.setUint32(8, fromLength, little);
    header.setBigUint64(16, linkGroup ?? 0n, little);
    packed.set(bytes, at);
    packed.set(path, at + HEADER);
    if (fromBytes !== undefined) packed.set(fromBytes, at + HEADER + path.length);
    at = end;
  }
  return packed.subarray(0, at);
}

function flagsOf(change: Change, compared: boolean): number {
  const renamed = change.kind === 'renamed';
  return (
    (renamed && change.replaces !== undefined ? flags.replaces : 0) |
    (renamed && (!compared || change.fields.length > 0) ? flags.fields : 0) |
    (change.type === 'directory' ? flags.directory : 0) |
    (change.fromBytes === undefined ? 0 : flags.from) |
    (change.linkGroup === undefined ? 0 : flags.linked)
  );
}
