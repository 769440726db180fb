/**
 * `overlayfs unmount`
 * @module
 */
import { unmount } from '../overlay/unmount.ts';
import { pathArgument } from './arguments.ts';
import type { Command } from './command.ts';
import { printable } from './output.ts';
import { UsageError } from './usage.ts';

/** Unmounts the topmost mount at the target, if it is an overlay. */
export const command: Command = {
  positionals: ['TARGET'],
  flags: {
    lazy: { type: 'boolean', help: 'take it out of the tree although files are open in it' },
    timeout: { type: 'string', value: 'MS', help: 'how long to try while it is busy; 5000' },
  },
  examples: ['overlayfs unmount /srv/box/merged', 'overlayfs unmount --timeout 0 /srv/box/merged'],
  what: ({ positionals: [target = ''] }) => `cannot unmount ${printable(target)}`,
  run: async (args) => {
    const {
      positionals: [target = ''],
    } = args;
    const timeout = args.text('timeout');
    if (timeout !== undefined && !/^\d+$/.test(timeout)) {
      throw new UsageError(`--timeout ${timeout}: a number of milliseconds is wanted`);
    }
    await unmount(pathArgument(target), {
      ...(args.flag('lazy') === undefined ? {} : { lazy: args.flag('lazy') === true }),
      ...(timeout === undefined ? {} : { timeout: Number(timeout) }),
    });
    return { text: `${printable(target)} unmounted`, json: { target, unmounted: true } };
  },
};
