/**
 * `overlayfs store gc`
 * @module
 */
import type { Command } from '../command.ts';
import { printable } from '../output.ts';
import { withProgress } from '../progress.ts';
import { withStore, writingFlags } from './open.ts';

/** Removes what killed processes left unfinished. */
export const command: Command = {
  positionals: [],
  flags: { ...writingFlags, 'dry-run': { type: 'boolean', help: 'only tell what would be removed' } },
  examples: ['overlayfs store gc --root /srv/store --dry-run', 'overlayfs store gc --root /srv/store'],
  exitOne: 'something could not be removed',
  what: () => 'cannot clear up',
  run: (args) => {
    const dryRun = args.flag('dry-run') === true;
    return withStore(args, dryRun ? 'read' : 'write', async (store) => {
      const garbage = await withProgress('clearing up', () => store.gc({ dryRun }));
      const lines = garbage.map(({ kind, path, error }) => {
        const why = error instanceof Error ? `: ${error.message}` : '';
        return `${kind.padEnd(13)}  ${printable(`${path}${why}`)}`;
      });
      return {
        text: lines.join('\n'),
        json: garbage,
        failed: !dryRun && garbage.some(({ removed }) => !removed),
      };
    });
  },
};
