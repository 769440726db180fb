/**
 * `overlayfs store diff`
 * @module
 */
import type { Change } from '../../changes/change.ts';
import type { Command } from '../command.ts';
import { printable } from '../output.ts';
import { withProgress } from '../progress.ts';
import { storeFlags, withStore } from './open.ts';

/** Tells what a layer changes. */
export const command: Command = {
  positionals: ['ID'],
  flags: storeFlags,
  examples: [
    'overlayfs store diff --root /srv/store box',
    'overlayfs store diff --root /srv/store --json box | jq -r \'.[] | select(.kind == "deleted").path\'',
  ],
  what: ({ positionals: [id = ''] }) => `cannot tell what ${printable(id)} changes`,
  run: (args) =>
    withStore(args, 'read', async (store) => {
      const {
        positionals: [id = ''],
      } = args;
      const changes: Change[] = [];
      await withProgress(`reading ${printable(id)}`, async (onProgress) => {
        await using stream = store.changes(id);
        for await (const batch of stream.batches()) {
          for (const change of batch) changes.push(change);
          onProgress({ entries: changes.length });
        }
      });
      return { text: changes.map(line).join('\n'), json: changes };
    }),
};

function line({ kind, path, from }: Change): string {
  const old = from === undefined ? '' : `${printable(from)} -> `;
  return `${kind.padEnd(8)}  ${old}${printable(path)}`;
}
