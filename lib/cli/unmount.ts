/**
 * `overlayfs unmount`
 * @module
 */
import { type UnmountOptions, unmount } from '../overlay/unmount.ts';
import { type Arguments, type Flags, pathArgument } from './arguments.ts';
import type { Command } from './command.ts';
import { printable } from './output.ts';
import { UsageError } from './usage.ts';

/** How to unmount. */
export const unmountFlags: Flags = {
  lazy: { type: 'boolean', help: 'take it out of the tree although files are open in it' },
  timeout: { type: 'string', value: 'MS', help: 'how long to try while it is busy; 5000' },
};

/** The same as the library takes it. */
export function unmountOptions(args: Arguments): UnmountOptions {
  const [lazy, timeout] = [args.flag('lazy'), args.text('timeout')];
  if (timeout !== undefined && !/^\d+$/.test(timeout)) {
    throw new UsageError(`--timeout ${timeout}: a number of milliseconds is wanted`);
  }
  return {
    ...(lazy === undefined ? {} : { lazy }),
    ...(timeout === undefined ? {} : { timeout: Number(timeout) }),
  };
}

/** Unmounts the topmost mount at the target, if it is an overlay. */
export const command: Command = {
  positionals: ['TARGET'],
  flags: unmountFlags,
  examples: ['overlayfs unmount /srv/box/merged', 'overlayfs unmount --timeout 0 /srv/box/merged'],
  what: ({ positionals: [target = ''] }) => `cannot unmount ${printable(target)}`,
  run: async (args) => {
    const {
      positionals: [target = ''],
    } = args;
    await unmount(pathArgument(target), unmountOptions(args));
    return { text: `${printable(target)} unmounted`, json: { target, unmounted: true } };
  },
};
