/**
 * `overlayfs store rm`
 * @module
 */
import type { Command } from '../command.ts';
import { printable } from '../output.ts';
import { withProgress } from '../progress.ts';
import { withStore, writingFlags } from './open.ts';

/** Removes layers, one after the other; what cannot be removed holds up none of the others. */
export const command: Command = {
  positionals: ['ID', '[ID …]'],
  flags: writingFlags,
  examples: ['overlayfs store rm --root /srv/store box', 'overlayfs store rm --root /srv/store next base'],
  exitOne: 'one of several could not be removed',
  what: ({ positionals }) => `cannot remove ${positionals.map(printable).join(', ')}`,
  run: (args) =>
    withStore(args, 'write', async (store) => {
      const ids = args.positionals;
      const results: { readonly id: string; readonly removed: boolean; readonly error?: unknown }[] = [];
      await withProgress('removing layers', async (onProgress) => {
        for (const id of ids) {
          results.push(await outcome(id, store.remove(id)));
          onProgress({ entries: results.length, of: ids.length });
        }
      });
      const [only] = results;
      if (results.length === 1 && only?.removed === false) throw only.error;
      const lines = results.map(({ id, removed, error }) =>
        removed ? `${id} removed` : printable(`${id} not removed: ${(error as Error).message}`),
      );
      return { text: lines.join('\n'), json: results, failed: results.some(({ removed }) => !removed) };
    }),
};

const outcome = (id: string, removing: Promise<void>) =>
  removing.then(
    () => ({ id, removed: true }),
    (error: unknown) => ({ id, removed: false, error }),
  );
