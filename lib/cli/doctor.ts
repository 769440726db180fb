/**
 * `overlayfs doctor`
 * @module
 */
import { doctor } from '../overlay/doctor.ts';
import type { Command } from './command.ts';
import { findingText } from './finding.ts';
import { mountFlags, mountOptions } from './mount-flags.ts';

/** Tells all that is wrong with a mount, and what is worth knowing; changes nothing. */
export const command: Command = {
  positionals: ['[TARGET]'],
  flags: mountFlags,
  examples: [
    'overlayfs doctor -l /srv/base -u /srv/box/upper -w /srv/box/work /srv/box/merged',
    'overlayfs doctor -l /srv/base --scratch --json',
  ],
  exitOne: 'there is a finding of severity error',
  what: () => 'cannot look',
  run: async (args, paint) => {
    const findings = await doctor(mountOptions(args));
    return {
      text:
        findings.length === 0 ? 'nothing to find' : findings.map((one) => findingText(one, paint)).join('\n'),
      json: findings,
      failed: findings.some(({ severity }) => severity === 'error'),
    };
  },
};
