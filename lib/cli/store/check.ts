/**
 * `overlayfs store check`
 * @module
 */
import type { Command } from '../command.ts';
import { findingText } from '../finding.ts';
import { withProgress } from '../progress.ts';
import { withStore, writingFlags } from './open.ts';

/** Looks for what is wrong in the store. */
export const command: Command = {
  positionals: [],
  flags: {
    ...writingFlags,
    repair: { type: 'boolean', help: 'mend what can be mended without losing anything' },
  },
  examples: [
    'overlayfs store check --root /var/lib/docker/overlay2',
    'overlayfs store check --root /srv/store --repair',
  ],
  exitOne: 'an error was found that is not mended',
  what: () => 'cannot look',
  run: (args, paint) => {
    const repair = args.flag('repair') === true;
    return withStore(args, repair ? 'write' : 'read', async (store) => {
      const findings = await withProgress('checking', () => store.check({ repair }));
      const texts = findings.map(({ path, repaired, ...finding }) => {
        const detail = path === undefined ? finding.detail : `${path}: ${finding.detail}`;
        return `${repaired ? 'mended, ' : ''}${findingText({ ...finding, detail }, paint)}`;
      });
      return {
        text: texts.length === 0 ? 'nothing to find' : texts.join('\n'),
        json: findings,
        failed: findings.some(({ severity, repaired }) => severity === 'error' && !repaired),
      };
    });
  },
};
