/**
 * The directory that a layer is mounted at: whether something is mounted there is asked of the kernel.
 * @module
 */
import { constants } from 'node:os';
import type { Entry } from './entry.ts';

/** `left`: something stands there, and nothing is mounted on it. */
export type MergedState = 'missing' | 'left' | 'mounted';

/** What is to be read of a layer to know it. */
export const mergedProbe = 'merged/.';

/** Nothing in a store is looked at through a mount: the look itself fails there. */
export function mergedState(inside: Entry | undefined): MergedState {
  if (inside === undefined || inside.type === 'missing') return 'missing';
  return inside.type === 'unreadable' && inside.errno === -constants.errno.EXDEV ? 'mounted' : 'left';
}
