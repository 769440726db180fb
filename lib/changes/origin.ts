/**
 * Which layers a change was found in.
 * @module
 */
import type { NativeChanges, NativeStack } from '../native/binding.ts';
import type { Change } from './change.ts';

/** The call of `changes()` that a change comes from. */
export interface ChangeOrigin {
  /** What the layers were called when they were opened: descriptors among them may be others' by now. */
  readonly stack: NativeStack;
  /** Whether `fields` says all that differs: with `compare: 'none'` not everything was looked at. */
  readonly compared: boolean;
  /** What holds them open. Throws `ERR_OVERLAY_STREAM_CLOSED` once nothing does. */
  walk(): NativeChanges;
}

/** Where a change keeps it. */
export const origin: unique symbol = Symbol('overlayfs.changeOrigin');

/** Undefined for an object that is not one of ours. */
export function originOf(change: Change): ChangeOrigin | undefined {
  return typeof change === 'object' && change !== null
    ? (change as { readonly [origin]?: ChangeOrigin })[origin]
    : undefined;
}
