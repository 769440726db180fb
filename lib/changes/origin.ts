/**
 * Which layers a change was found in.
 * @module
 */
import type { NativeStack } from '../native/binding.ts';
import type { Change } from './change.ts';

/** Where a change keeps it. */
export const origin: unique symbol = Symbol('overlayfs.changeOrigin');

/** The stack of the call of `changes()` that a change comes from; undefined for an object that is not one of ours. */
export function stackOf(change: Change): NativeStack | undefined {
  return typeof change === 'object' && change !== null
    ? (change as { readonly [origin]?: NativeStack })[origin]
    : undefined;
}
