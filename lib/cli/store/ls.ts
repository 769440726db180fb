/**
 * `overlayfs store ls`
 * @module
 */
import type { Command } from '../command.ts';
import { table } from '../output.ts';
import { storeFlags, withStore } from './open.ts';

/** Lists the layers. */
export const command: Command = {
  positionals: [],
  flags: storeFlags,
  examples: [
    'overlayfs store ls --root /var/lib/docker/overlay2',
    "overlayfs store ls --root /srv/store --json | jq -r '.[].id'",
  ],
  what: () => 'cannot list the layers',
  run: (args) =>
    withStore(args, 'read', async (store) => {
      const layers = await store.list();
      const rows = layers.map(({ id, parent = '-', kind, readonly, own }) => [
        id,
        parent,
        kind,
        readonly ? 'read-only' : 'writable',
        own ? 'overlayfs' : 'another',
      ]);
      return { text: table([['ID', 'PARENT', 'KIND', 'MODE', 'MADE BY'], ...rows]), json: layers };
    }),
};
