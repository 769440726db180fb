/**
 * Layers on the command line: those of a mounted overlay, or named by flags.
 * @module
 */
import { realpath } from 'node:fs/promises';
import { overlayError } from '../errors.ts';
import { listOverlays, type MountedOverlay } from '../inspect/mount-table.ts';
import { stackOfMount } from '../layer/mounted.ts';
import { absolutePath, showPath } from '../paths.ts';
import type { LayerStack } from '../types.ts';
import { type Arguments, type Flags, pathArgument } from './arguments.ts';
import { mountFlags, mountOptions } from './mount-flags.ts';
import { UsageError } from './usage.ts';

const names: readonly string[] = [
  'lower',
  'data-only-lower',
  'upper',
  'work',
  'index',
  'metacopy',
  'userxattr',
  'redirect-dir',
];

/** The layers, and the options that say what is in them. */
export const stackFlags: Flags = Object.fromEntries(
  Object.entries(mountFlags).filter(([name]) => names.includes(name)),
);

/** The layers that the flags name, if any. */
export function stackGiven(args: Arguments): LayerStack | undefined {
  if (args.texts('lower').length > 0) return mountOptions({ ...args, positionals: [] });
  const alone = names.find((name) => args.texts(name).length > 0 || args.flag(name) !== undefined);
  if (alone !== undefined) throw new UsageError(`--${alone} needs --lower`);
  return undefined;
}

/** The layers of the overlay that is mounted on `target`, or those that the flags name. */
export async function stackAsked(args: Arguments, target: string | undefined): Promise<LayerStack> {
  const given = stackGiven(args);
  if (given !== undefined && target !== undefined) throw new UsageError('TARGET or --lower, not both');
  if (given !== undefined) return given;
  if (target === undefined) throw new UsageError('TARGET is missing, or layers with --lower');
  return stackOfMount(await mountAt(pathArgument(target)));
}

async function mountAt(given: Buffer): Promise<MountedOverlay> {
  const target = absolutePath(given, 'target');
  const real = await realpath(target, 'buffer').catch(() => target);
  const mount = (await listOverlays()).findLast(({ targetBytes }) => targetBytes.equals(real));
  if (mount !== undefined) return mount;
  throw overlayError(
    'ERR_OVERLAY_NOT_AN_OVERLAY',
    `no overlay is mounted at ${showPath(target)}`,
    'Name the directory that it is mounted on (`overlayfs ls` tells all), or layers with --lower',
    { path: showPath(target) },
  );
}
