/**
 * `overlayfs sweep`
 * @module
 */
import { unmountOrphans } from '../overlay/orphans.ts';
import type { Command } from './command.ts';
import { printable } from './output.ts';

/** Unmounts what killed processes left. */
export const command: Command = {
  positionals: [],
  flags: { 'dry-run': { type: 'boolean', help: 'only tell what would be unmounted' } },
  examples: ['overlayfs sweep --dry-run', 'overlayfs sweep'],
  exitOne: 'an orphan could not be unmounted',
  what: () => 'cannot sweep',
  run: async (args) => {
    const results = await unmountOrphans({ dryRun: args.flag('dry-run') ?? false });
    const lines = results.map(({ state, target, owner, error }) => {
      const why = error instanceof Error ? `: ${error.message}` : '';
      return `${state.padEnd(9)}  ${printable(target)}  pid ${owner.pid}${why}`;
    });
    return { text: lines.join('\n'), json: results, failed: results.some(({ state }) => state === 'failed') };
  },
};
