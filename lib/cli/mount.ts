/**
 * `overlayfs mount`
 * @module
 */
import { mountOverlay, planOverlay } from '../overlay/mount.ts';
import type { OverlayPlan } from '../overlay/plan.ts';
import type { Command, Outcome } from './command.ts';
import { mountFlags, mountOptions } from './mount-flags.ts';
import { mounted } from './mounted.ts';
import { printable } from './output.ts';

/** Mounts; what it mounts is `keepOnExit`, since the command ends at once. */
export const command: Command = {
  positionals: ['TARGET'],
  flags: {
    ...mountFlags,
    'dry-run': { type: 'boolean', help: 'print what would be sent to the kernel, and send nothing' },
  },
  examples: [
    'overlayfs mount -l /srv/app -l /srv/base -u /srv/box/upper -w /srv/box/work /srv/box/merged',
    'overlayfs mount -l /srv/base --scratch=1G --mkdir-target /tmp/box',
    'overlayfs mount -l /srv/base --scratch --dry-run --json /tmp/box',
  ],
  what: ({ positionals: [target = ''] }) => `cannot mount ${printable(target)}`,
  run: async (args, paint) => {
    const options = { ...mountOptions(args), keepOnExit: true };
    if (args.flag('dry-run')) return planned(await planOverlay(options));
    return mounted(await mountOverlay(options), paint);
  },
};

function planned(plan: OverlayPlan): Outcome {
  const lines = Object.entries(plan).map(([key, value]) => `${key.padEnd(14)} ${show(value)}`.trimEnd());
  return { text: lines.join('\n'), json: plan };
}

function show(value: OverlayPlan[keyof OverlayPlan]): string {
  if (Array.isArray(value)) {
    return value.map((one) => (typeof one === 'object' ? one.detail : printable(String(one)))).join(' ');
  }
  if (typeof value !== 'object') return printable(String(value));
  return Object.entries(value)
    .map(([key, one]) => (one === true ? key : `${key}=${printable(String(one))}`))
    .join(' ');
}
