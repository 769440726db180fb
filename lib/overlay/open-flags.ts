/**
 * The flags of `fs.open`, which Node.js translates only for itself.
 * @module
 */
import { constants } from 'node:fs';
import { invalidArgument } from '../errors.ts';

const { O_RDONLY, O_WRONLY, O_RDWR, O_CREAT, O_TRUNC, O_APPEND, O_EXCL, O_SYNC } = constants;

const words: Readonly<Record<string, number>> = {
  r: O_RDONLY,
  rs: O_RDONLY | O_SYNC,
  'r+': O_RDWR,
  'rs+': O_RDWR | O_SYNC,
  w: O_WRONLY | O_CREAT | O_TRUNC,
  wx: O_WRONLY | O_CREAT | O_TRUNC | O_EXCL,
  'w+': O_RDWR | O_CREAT | O_TRUNC,
  'wx+': O_RDWR | O_CREAT | O_TRUNC | O_EXCL,
  a: O_WRONLY | O_CREAT | O_APPEND,
  ax: O_WRONLY | O_CREAT | O_APPEND | O_EXCL,
  'a+': O_RDWR | O_CREAT | O_APPEND,
  'ax+': O_RDWR | O_CREAT | O_APPEND | O_EXCL,
  as: O_WRONLY | O_CREAT | O_APPEND | O_SYNC,
  'as+': O_RDWR | O_CREAT | O_APPEND | O_SYNC,
};

/** The bits of `'r'`, `'w+'` and so on; numbers are taken as they are. */
export function openFlags(flags: string | number): number {
  if (typeof flags === 'number' && Number.isInteger(flags) && flags >= 0 && flags <= 0x7fffffff) return flags;
  const bits = typeof flags === 'string' && Object.hasOwn(words, flags) ? words[flags] : undefined;
  if (bits === undefined) throw invalidArgument('flags', flags, 'must be the flags of fs.open');
  return bits;
}
