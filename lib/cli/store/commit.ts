/**
 * `overlayfs store commit`
 * @module
 */
import type { Command } from '../command.ts';
import { printable } from '../output.ts';
import { withProgress } from '../progress.ts';
import { withStore, writingFlags } from './open.ts';

/** Makes an image layer of what a container layer holds. */
export const command: Command = {
  positionals: ['CONTAINER', 'ID'],
  flags: writingFlags,
  examples: ['overlayfs store commit --root /srv/store box next'],
  what: ({ positionals: [container = ''] }) => `cannot commit ${printable(container)}`,
  run: (args) =>
    withStore(args, 'write', async (store) => {
      const {
        positionals: [container = '', id = ''],
      } = args;
      const layer = await withProgress(`copying ${printable(container)}`, (onProgress) =>
        store.commit(container, { id, onProgress }),
      );
      return { text: `${container} committed as ${id}`, json: layer };
    }),
};
