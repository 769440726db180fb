/**
 * `overlayfs store unmount`
 * @module
 */
import type { Command } from '../command.ts';
import { printable } from '../output.ts';
import { unmountFlags, unmountOptions } from '../unmount.ts';
import { withStore, writingFlags } from './open.ts';

const { durability: _, ...flags } = writingFlags;

/** Unmounts a layer, whoever has mounted it. */
export const command: Command = {
  positionals: ['ID'],
  flags: { ...flags, ...unmountFlags },
  examples: [
    'overlayfs store unmount --root /srv/store box',
    'overlayfs store unmount --root /srv/store --timeout 0 box',
  ],
  what: ({ positionals: [id = ''] }) => `cannot unmount ${printable(id)}`,
  run: (args) => {
    const options = unmountOptions(args);
    return withStore(args, 'write', async (store) => {
      const {
        positionals: [id = ''],
      } = args;
      await store.unmount(id, options);
      return { text: `${id} unmounted`, json: { id, unmounted: true } };
    });
  },
};
