/**
 * Which overlays of the mount table use a directory as upper or work, and who holds them.
 * @module
 */
import { binding } from '../addon.ts';
import { describeHolders, holders } from '../inspect/holders.ts';
import { listOverlays, type MountedOverlay } from '../inspect/mount-table.ts';
import type { Finding, Holder, Holders, Unseen } from '../types.ts';
import type { Layer } from './layer-facts.ts';

/** What an error that a layer is in use can say beyond it. */
export interface LayerUse {
  readonly why: Finding;
  readonly holders: Holders;
}

/** Completes the finding that upper or work is in use; undefined where the mount table does not tell by whom. */
export async function whoUses(why: Finding, layers: readonly Layer[]): Promise<LayerUse | undefined> {
  const role = roles[why.code];
  const layer = layers.find((one) => one.role === role);
  if (layer === undefined) return undefined;
  const users = await overlaysOn(layer);
  if (users.length === 0) return undefined;
  const found = await Promise.all(users.map((user) => holders(user)));
  const unseen: Unseen[] = found[0] === undefined ? [] : [...found[0].unseen];
  const themselves = users.map(({ target: path, targetBytes: pathBytes }): Holder => {
    return { kind: 'mount', path, pathBytes };
  });
  const held = found.flatMap((one) => [...one]);
  const all = Object.assign([...themselves, ...held], { unseen });
  const who = held.length === 0 ? '' : `; ${describeHolders(Object.assign(held, { unseen: [] }))}`;
  const where = users.map(({ target }) => target).join(', ');
  const detail = `the ${layer.label} ${layer.shown} is in use by the overlay mounted at ${where}${who}`;
  return { why: { ...why, detail }, holders: all };
}

const roles: Readonly<Record<string, Layer['role']>> = {
  ERR_OVERLAY_UPPER_IN_USE: 'upper',
  ERR_OVERLAY_WORK_IN_USE: 'work',
};

// By identity, not by name: the table may show the directory by another path.
async function overlaysOn({ facts }: Layer): Promise<MountedOverlay[]> {
  if (facts.error !== undefined) return [];
  const named = (await listOverlays()).flatMap((overlay) =>
    [overlay.upper, overlay.work].flatMap((layer) =>
      layer === undefined || layer.unresolved !== undefined ? [] : { overlay, path: layer.pathBytes },
    ),
  );
  const found = await binding().directoryFacts(named.map(({ path }) => path));
  const users = named.filter((_, i) => {
    const one = found[i];
    return one?.error === undefined && one?.device === facts.device && one.inode === facts.inode;
  });
  return [...new Set(users.map(({ overlay }) => overlay))];
}
