/**
 * Whether a directory may be the root of a store.
 * @module
 */
import { overlayError } from '../errors.ts';
import { directorySupport } from '../inspect/directory-support.ts';
import { kernelFeatures } from '../inspect/kernel.ts';
import type { StoreDirectory } from './directory.ts';

/** Throws for a root that others could plant something in. */
export async function refuseUnsafeRoot(directory: StoreDirectory): Promise<void> {
  const [root] = await directory.read(['.']);
  const owner = root?.owner ?? 0;
  const unsafe =
    owner !== process.geteuid?.()
      ? `belongs to user ${owner}`
      : ((root?.mode ?? 0) & 0o022) !== 0
        ? 'can be written to by others'
        : undefined;
  if (unsafe === undefined) return;
  throw overlayError(
    'ERR_OVERLAY_STORE_ROOT_UNSAFE',
    `${directory.shown} ${unsafe}, who could put anything in the place of a layer`,
    'Give it to the user who opens it, with mode 0710; or set force',
    { path: directory.shown },
  );
}

/** Throws for a root that layers cannot be written in. Tried, in a directory that is removed again. */
export async function refuseUnsuitableRoot(directory: StoreDirectory): Promise<void> {
  const reason = await whyUnsuitable(directory);
  if (reason === undefined) return;
  throw overlayError(
    'ERR_OVERLAY_STORE_ROOT',
    `${directory.shown} cannot hold layers: ${reason}`,
    'Use a directory on ext4, xfs (ftype=1), btrfs or tmpfs',
    { path: directory.shown },
  );
}

async function whyUnsuitable(directory: StoreDirectory): Promise<string | undefined> {
  const support = await directorySupport(directory.ref, true);
  if (support.overlay) return 'it lies on an overlay, which cannot hold an upper';
  if (support.network) return `${support.fileSystem} is a network file system`;
  if (support.readonly) return 'its file system or mount is read-only';
  const { initialUserNamespace } = await kernelFeatures();
  const needed = [
    support.entryTypes,
    initialUserNamespace ? support.trustedXattr : support.userXattr,
    support.whiteout,
  ];
  const lacking = needed.find(({ ok }) => !ok);
  return lacking === undefined ? undefined : `${lacking.reason} (${lacking.evidence})`;
}
