/**
 * `overlayfs holders`
 * @module
 */
import { holders } from '../inspect/holders.ts';
import type { Holder } from '../types.ts';
import { pathArgument } from './arguments.ts';
import type { Command } from './command.ts';
import { table } from './output.ts';

/** Tells who keeps a mount busy, and what could not be seen. */
export const command: Command = {
  positionals: ['TARGET'],
  flags: {},
  examples: ['overlayfs holders /srv/box/merged'],
  what: ({ positionals: [target = ''] }) => `cannot tell who holds ${target}`,
  run: async ({ positionals: [target = ''] }) => {
    const found = await holders(pathArgument(target));
    const { unseen } = found;
    const lines = [
      ...(found.length === 0
        ? ['nobody holds it']
        : [table([['PID', 'UID', 'COMMAND', 'BY', 'WHAT'], ...found.map(row)])]),
      ...unseen.map(({ what, why, pids }) => {
        const whose = pids.length === 0 ? 'of some processes' : `of ${pids.length} processes`;
        return `not seen (${why}): ${what.join(', ')} ${whose}`;
      }),
    ];
    return { text: lines.join('\n'), json: { holders: [...found], unseen } };
  },
};

function row({ pid, uid, comm, kind, fd, mode, path }: Holder): string[] {
  const through = fd === undefined ? kind : `${kind} ${fd}${mode === undefined ? '' : ` ${mode}`}`;
  return [`${pid ?? '-'}`, `${uid ?? '-'}`, comm ?? '-', through, path];
}
