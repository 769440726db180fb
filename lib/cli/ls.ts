/**
 * `overlayfs ls`
 * @module
 */
import { listOverlays, type MountedOverlay } from '../inspect/mount-table.ts';
import type { Command } from './command.ts';
import { table } from './output.ts';

/** Lists the overlays of this mount namespace. */
export const command: Command = {
  positionals: [],
  flags: {},
  examples: ['overlayfs ls', "overlayfs ls --json | jq -r '.[].target'"],
  what: () => 'cannot list the overlays',
  run: async () => {
    const overlays = await listOverlays();
    const rows = overlays.map((overlay) => [
      overlay.target,
      lowers(overlay),
      overlay.upper?.path ?? '-',
      overlay.process === undefined ? overlay.owner : `pid ${overlay.process.pid}`,
    ]);
    return { text: table([['TARGET', 'LOWER', 'UPPER', 'OWNER'], ...rows]), json: overlays };
  },
};

function lowers({ lower, dataOnlyLower }: MountedOverlay): string {
  const [first, ...others] = [...lower, ...dataOnlyLower];
  if (first === undefined) return '-';
  return others.length === 0 ? first.path : `${first.path} and ${others.length} more`;
}
