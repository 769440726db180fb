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

const mountChannel = channel('overlayfs:mount');
const unmountChannel = channel('overlayfs:unmount');

const debug = debuglog('overlayfs');
if (debug.enabled) {
  for (const one of [mountChannel, unmountChannel])
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
