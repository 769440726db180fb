/**
 * `overlayfs store usage`
 * @module
 */
import { formatBytes } from '../../changes/summary.ts';
import type { Usage } from '../../store/types.ts';
import type { Command } from '../command.ts';
import { printable, table } from '../output.ts';
import { withProgress } from '../progress.ts';
import { storeFlags, withStore } from './open.ts';

/** Tells how much layers take. */
export const command: Command = {
  positionals: ['[ID …]'],
  flags: {
    ...storeFlags,
    shared: { type: 'boolean', help: 'and what removing the layer would not free' },
  },
  examples: [
    'overlayfs store usage --root /srv/store',
    'overlayfs store usage --root /srv/store --shared box',
  ],
  what: ({ positionals }) => `cannot measure ${positionals.map(printable).join(', ') || 'the layers'}`,
  run: (args) =>
    withStore(args, 'read', async (store) => {
      const { positionals } = args;
      const shared = args.flag('shared') === true;
      const ids = positionals.length > 0 ? positionals : (await store.list()).map(({ id }) => id);
      const measured: ({ readonly id: string } & Usage)[] = [];
      await withProgress('measuring layers', async (onProgress) => {
        for (const id of ids) {
          measured.push({ id, ...(await store.usage(id, { shared })) });
          onProgress({ entries: measured.length, of: ids.length });
        }
      });
      const heads = [
        'ID',
        'APPARENT',
        'ALLOCATED',
        'INODES',
        ...(shared ? ['HARD-LINKED', 'REFLINKED'] : []),
      ];
      return { text: table([heads, ...measured.map(row)]), json: measured };
    }),
};

function row({ id, apparent, allocated, inodes, shared }: { readonly id: string } & Usage): string[] {
  const more = shared === undefined ? [] : [shared.hardLinked, shared.reflinked];
  return [id, formatBytes(apparent), formatBytes(allocated), String(inodes), ...more.map(formatBytes)];
}
