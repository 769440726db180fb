/**
 * What happens, told to whoever listens: `diagnostics_channel`s, and `NODE_DEBUG=overlayfs` on top of them.
 * @module
 */
import { channel } from 'node:diagnostics_channel';
import { debuglog } from 'node:util';

/** Published on `overlayfs:mount` after each attempt to mount. */
export interface MountEvent {
  /** Where; absent for a detached view. */
  readonly target?: string;
  readonly source: string;
  /** The way that the kernel took it; absent when it failed. */
  readonly rung?: string;
  /** Milliseconds. */
  readonly duration: number;
  readonly error?: unknown;
}

/** Published on `overlayfs:unmount` after each attempt to unmount. */
export interface UnmountEvent {
  readonly target?: string;
  readonly lazy: boolean;
  /** Milliseconds, waiting for what kept it busy included. */
  readonly duration: number;
  readonly error?: unknown;
}

/** Published on `overlayfs:copy-up` when a `copyUp()` has ended. */
export interface CopyUpEvent {
  /** Through a mounted overlay, by the kernel; otherwise the upper was written itself. */
  readonly mounted: boolean;
  /** Paths that were dealt with, those that were skipped included. */
  readonly entries: number;
  readonly bytes: bigint;
  /** Milliseconds, the time that the consumer took included. */
  readonly duration: number;
  readonly error?: unknown;
}

/** Published on `overlayfs:store` after each operation that changes a store, or mounts or unmounts a layer. */
export interface StoreEvent {
  /** Of the store. */
  readonly root: string;
  /** The method's name. */
  readonly operation: string;
  /** The layer; absent where it is about the whole store. */
  readonly id?: string;
  /** Milliseconds. */
  readonly duration: number;
  readonly error?: unknown;
}

const mountChannel = channel('overlayfs:mount');
const unmountChannel = channel('overlayfs:unmount');
const copyUpChannel = channel('overlayfs:copy-up');
const storeChannel = channel('overlayfs:store');

const debug = debuglog('overlayfs');
if (debug.enabled) {
  for (const one of [mountChannel, unmountChannel, copyUpChannel, storeChannel])
    one.subscribe((event, name) => debug('%s %O', name, event));
}

/** Tells the outcome of a mount; costs nothing when nobody listens. */
export function publishMount(event: () => MountEvent): void {
  if (mountChannel.hasSubscribers) mountChannel.publish(event());
}

/** Tells the outcome of an unmount; costs nothing when nobody listens. */
export function publishUnmount(event: () => UnmountEvent): void {
  if (unmountChannel.hasSubscribers) unmountChannel.publish(event());
}

/** Tells the outcome of copying up; costs nothing when nobody listens. */
export function publishCopyUp(event: () => CopyUpEvent): void {
  if (copyUpChannel.hasSubscribers) copyUpChannel.publish(event());
}

/** Tells the outcome of an operation in a store; costs nothing when nobody listens. */
export function publishStore(event: () => StoreEvent): void {
  if (storeChannel.hasSubscribers) storeChannel.publish(event());
}
