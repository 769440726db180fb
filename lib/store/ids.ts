/**
 * What layers are called: ids, which are the caller's, and the short names in `l`.
 * @module
 */
import { randomBytes } from 'node:crypto';
import { invalidArgument, overlayError } from '../errors.ts';

const MOST_BYTES = 255;
const LINK_LENGTH = 26;
const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567';

/** What every tool takes that opens the store: Docker's drivers join ids with commas and colons, without escaping. */
const idPattern = /^[A-Za-z0-9][A-Za-z0-9_.-]*$/;
const linkPattern = new RegExp(`^[${alphabet}]{${LINK_LENGTH}}$`);
const reserved: readonly string[] = ['l', 'staging', 'tempdirs', 'backingFsBlockDev'];

/** Whether a name in the root directory can be a layer's. */
export function isId(name: string): boolean {
  return idPattern.test(name) && name.length <= MOST_BYTES && !reserved.includes(name);
}

/** Throws for what is no id. `name` is the argument's own name. */
export function checkId(id: unknown, name: string): string {
  if (typeof id !== 'string') throw invalidArgument(name, id, 'must be a string');
  if (isId(id)) return id;
  throw overlayError(
    'ERR_OVERLAY_STORE_ID',
    `${name} ${JSON.stringify(id)} cannot be the id of a layer`,
    "Use letters, digits, '_', '.' and '-', beginning with a letter or a digit, at most 255 of them, and not 'l'",
  );
}

/** A name for `l`: 26 of Docker's alphabet, from 130 random bits. */
export function newLinkName(): string {
  return Array.from(randomBytes(LINK_LENGTH), (byte) => alphabet[byte & 31]).join('');
}

export const isLinkName = (name: string): boolean => linkPattern.test(name);

/** A name for what nobody else knows yet, or any more. */
export const newPrivateName = (): string => randomBytes(12).toString('hex');
