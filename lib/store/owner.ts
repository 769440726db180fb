/**
 * Whether the program that a store belongs to is running: told by the locks that it holds, and by what is mounted.
 * @module
 */
import { readdirSync } from 'node:fs';
import { binding } from '../addon.ts';
import { overlayError } from '../errors.ts';
import { listOverlays, overlaysElsewhere } from '../inspect/mount-table.ts';
import { parseOwner, unownedSource } from '../inspect/owner.ts';
import { isSame } from '../inspect/relation.ts';
import type { NativeFileLock } from '../native/binding.ts';
import { showPath } from '../paths.ts';
import { mustBeWritable, type StoreContext } from './context.ts';
import { explainStore } from './errors.ts';

/**
 * Where Docker's daemon keeps its databases below its data root: each is locked (flock(2)) for as long as it lives.
 * @see https://github.com/etcd-io/bbolt
 */
const databaseFolders = [
  'volumes',
  'buildkit',
  'builder',
  'network/files',
  'containerd/daemon/io.containerd.metadata.v1.bolt',
];

/** What containers/storage locks (fcntl(2)) while it works, below its graph root. */
const lockFiles = [
  'storage.lock',
  'overlay-layers/layers.lock',
  'overlay-images/images.lock',
  'overlay-containers/containers.lock',
];

/** Throws where the store must not be written to: it is only read, or another program uses it. */
export async function mustBeOurs(store: StoreContext): Promise<void> {
  mustBeWritable(store);
  if (store.foreign) await refuseLivingOwner(store);
}

/** Throws where another program that keeps its layers there is running. */
export async function refuseLivingOwner(store: StoreContext): Promise<void> {
  const evidence = (await heldLock(store)) ?? (await mountedLayer(store));
  if (evidence === undefined) return;
  const { shown } = store.directory;
  throw overlayError(
    'ERR_OVERLAY_STORE_OWNER_ALIVE',
    `the program that the store ${shown} belongs to is running: ${evidence}`,
    'Stop it and its containers, and try again',
    { path: shown },
  );
}

async function heldLock({ directory }: StoreContext): Promise<string | undefined> {
  const above = directory.path.subarray(0, directory.path.lastIndexOf('/'));
  const below = (name: string) => Buffer.concat([above, Buffer.from(`/${name}`)]);
  const databases = databaseFolders.flatMap((folder) =>
    namesIn(below(folder))
      .filter((name) => name.endsWith('.db'))
      .map((name) => `${folder}/${name}`),
  );
  for (const path of [...databases, ...lockFiles].map(below)) {
    const lock: NativeFileLock = await binding()
      .fileLock(path)
      .catch((error) => {
        throw explainStore(error, showPath(path));
      });
    if (lock !== 'none') return `${showPath(path)} is locked (${lock}(2))`;
  }
  return undefined;
}

async function mountedLayer({ directory }: StoreContext): Promise<string | undefined> {
  const prefix = Buffer.concat([directory.path, Buffer.from('/')]);
  const isBelow = (point: Buffer) => point.subarray(0, prefix.length).equals(prefix);
  const mounted = (await listOverlays()).find(
    ({ owner, targetBytes }) => owner === 'foreign' && isBelow(targetBytes),
  );
  if (mounted !== undefined) return `an overlay is mounted at ${mounted.target}`;
  // Without privilege containers have a mount namespace of their own; and one may have another store of this path.
  const there = (await overlaysElsewhere()).overlays.filter(
    ({ source, point }) => isForeign(showPath(source)) && isBelow(point),
  );
  const roots = there.map(({ pid }) => Buffer.concat([Buffer.from(`/proc/${pid}/root`), directory.path]));
  const [own, ...facts] = await binding().directoryFacts([directory.ref, ...roots]);
  const found = there.find((_, index) => isSame(own, facts[index]));
  if (found === undefined) return undefined;
  return `an overlay is mounted at ${showPath(found.point)} in the mount namespace of process ${found.pid}`;
}

const isForeign = (source: string): boolean => parseOwner(source) === undefined && source !== unownedSource;

function namesIn(folder: Buffer): string[] {
  try {
    return readdirSync(folder, 'utf8');
  } catch (error) {
    if (['ENOENT', 'ENOTDIR'].includes((error as NodeJS.ErrnoException).code ?? '')) return [];
    throw error;
  }
}
