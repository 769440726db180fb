/**
 * `overlayfs store init`
 * @module
 */
import { overlayError } from '../../errors.ts';
import type { Command } from '../command.ts';
import { printable } from '../output.ts';
import { withStore, writingFlags } from './open.ts';

const { foreign: _, ...flags } = writingFlags;

/** Makes a directory a store; one that is a store already stays as it is. */
export const command: Command = {
  positionals: [],
  flags,
  examples: [
    'overlayfs store init --root /srv/store',
    'overlayfs store init --root /srv/old --driver overlay',
  ],
  what: (args) => `cannot make a store of ${printable(args.text('root') ?? 'nothing')}`,
  run: (args) =>
    withStore(args, 'init', async ({ root, driver, foreign }) => {
      if (foreign) {
        throw overlayError(
          'ERR_OVERLAY_STORE_ROOT',
          `${root} holds something that this program has not made`,
          'Name a directory that is empty, or one that is missing in one that is there',
          { path: root },
        );
      }
      return { text: `${printable(root)} is a store, driver ${driver}`, json: { root, driver } };
    }),
};
