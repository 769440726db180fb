/**
 * Opening a store: whose it is, whether its root directory will do, and an empty one made ours.
 * @module
 */
import { constants } from 'node:os';
import { binding } from '../addon.ts';
import { boolean, checked, integer, oneOf } from '../arguments.ts';
import { type OverlayError, overlayError } from '../errors.ts';
import { isNativeError } from '../native-errors.ts';
import { absolutePath, showPath } from '../paths.ts';
import type { PathLike } from '../types.ts';
import { StoreDirectory } from './directory.ts';
import type { Driver } from './driver.ts';
import { explainStore } from './errors.ts';
import { StoreOfLayers } from './layer-store.ts';
import { markerName, newDirectory, ownDirectory, removedDirectory } from './layout.ts';
import { overlay } from './overlay.ts';
import { overlay2 } from './overlay2.ts';
import { refuseLivingOwner } from './owner.ts';
import { refuseUnsafeRoot, refuseUnsuitableRoot } from './root.ts';
import { makeDirectory, replaceFile, type Step, sync } from './steps.ts';
import type { LayerStore, StoreDriver, StoreOptions } from './types.ts';

const drivers: Readonly<Record<StoreDriver, Driver>> = { overlay2, overlay };

/**
 * Opens a store of layers. A directory that is missing (one level) or empty becomes a store of this package. One that another
 * program has made (Docker, containers/storage) is opened for reading only, unless `foreign: 'write'` is given.
 *
 * @param root - the storage driver's own directory: `/var/lib/docker/overlay2`, not Docker's data root.
 *
 * @throws OverlayError `ERR_OVERLAY_STORE_ROOT` for a directory that cannot hold a store or holds something else,
 * `ERR_OVERLAY_STORE_ROOT_UNSAFE` for one that others may write to, `ERR_OVERLAY_STORE_OWNER_ALIVE` for `foreign: 'write'` while
 * its program runs, and for the empty directory of one that has just been started.
 *
 * @example
 * ```ts
 * import { openStore } from 'overlayfs/store';
 *
 * await using docker = await openStore('/var/lib/docker/overlay2', { driver: 'overlay2' });
 * for (const { id, parent } of await docker.list()) console.log(id, parent ?? '(base)');
 * ```
 */
export async function openStore(root: PathLike, options: StoreOptions): Promise<LayerStore> {
  const path = absolutePath(root, 'root');
  const settled = checkOptions(options);
  const driver = drivers[settled.driver];
  if (!settled.readonly) await makeRoot(path);
  const directory = await openRoot(path, settled.lockTimeout);
  try {
    const state = await stateOf(directory, driver);
    const foreign = state === 'foreign';
    const wantsToWrite = !settled.readonly && (!foreign || settled.foreign === 'write');
    if (!settled.force) await refuseUnsafeRoot(directory);
    const context = {
      directory,
      driver,
      durability: settled.durability,
      readonly: !wantsToWrite,
      foreign,
    };
    // Its daemon may have just been started: with no layer yet, its directory is as empty as anybody's.
    if (wantsToWrite && state !== 'own') await refuseLivingOwner(context);
    if (wantsToWrite && state !== 'own') await refuseUnsuitableRoot(directory);
    if (wantsToWrite && state === 'empty') await initialise(directory, driver);
    if (wantsToWrite && foreign) await makeOwnDirectories(directory, []);
    return new StoreOfLayers(context);
  } catch (error) {
    directory.close();
    throw error;
  }
}

function checkOptions(options: StoreOptions): Required<Omit<StoreOptions, 'foreign'>> & StoreOptions {
  const given = checked(options, {
    driver: oneOf('overlay2', 'overlay'),
    durability: oneOf('syncfs', 'metadata', 'none'),
    readonly: boolean,
    foreign: oneOf('write'),
    force: boolean,
    lockTimeout: integer(0, 2 ** 31 - 1),
  });
  oneOf('overlay2', 'overlay')(given.driver, 'driver');
  return { durability: 'syncfs', readonly: false, force: false, lockTimeout: 10_000, ...given };
}

async function makeRoot(path: Buffer): Promise<void> {
  const slash = path.lastIndexOf('/');
  const name = path.subarray(slash + 1);
  if (name.length === 0 || name.equals(Buffer.from('.')) || name.equals(Buffer.from('..'))) return;
  const parent = slash === 0 ? Buffer.from('/') : path.subarray(0, slash);
  const { EEXIST, ENOENT, ENOTDIR, EROFS, EACCES } = constants.errno;
  await binding()
    .runStoreSteps(parent, [['mkdir', name, Buffer.alloc(0), 0o710]], true)
    .catch((error) => {
      // Opening it says more of these.
      const opening = [EEXIST, ENOENT, ENOTDIR, EROFS, EACCES];
      if (!isNativeError(error) || !opening.includes(-error.errno))
        throw explainStore(error, `the store ${showPath(path)}`);
    });
}

async function openRoot(path: Buffer, lockTimeout: number): Promise<StoreDirectory> {
  const directories = await binding()
    .openDirectories([path])
    .catch((error) => {
      if (!isNativeError(error)) throw error;
      throw explainRoot(error, path);
    });
  const [facts] = await binding().directoryFacts(directories.fds);
  const canonical = facts?.error === undefined ? facts?.canonicalPath : undefined;
  return new StoreDirectory(
    canonical === undefined || canonical.length === 0 ? path : canonical,
    directories,
    lockTimeout,
  );
}

function explainRoot(error: Parameters<typeof explainStore>[0] & object, path: Buffer): unknown {
  const explained = explainStore(error, `the store ${showPath(path)}`);
  const { errno } = error as { errno: number };
  if (![constants.errno.ENOENT, constants.errno.ENOTDIR].includes(-errno)) return explained;
  return overlayError(
    'ERR_OVERLAY_STORE_ROOT',
    `${showPath(path)} ${-errno === constants.errno.ENOENT ? 'does not exist' : 'is not a directory'}`,
    "Name the storage driver's directory",
    { path: showPath(path), errno },
  );
}

/** `empty`: nothing is there but what a killed process may have begun to make of it. */
async function stateOf(directory: StoreDirectory, driver: Driver): Promise<'own' | 'foreign' | 'empty'> {
  const [marker] = await directory.read([markerName]);
  if (marker?.type === 'file') {
    const named = driverInMarker(marker.bytes.toString());
    if (named === driver.name) return 'own';
    throw overlayError(
      'ERR_OVERLAY_STORE_ROOT',
      `${directory.shown} is a store for the driver ${named ?? '(unknown)'}`,
      'Open it with that driver',
      { path: directory.shown },
    );
  }
  const names = await directory.names();
  const named = names.flatMap(({ text }) => (text === undefined ? [] : [text]));
  // Whoever begins one makes `.overlayfs` first: another program's is not taken for it.
  const ours = named.includes(ownDirectory) ? driver.directories.map(([name]) => name) : [];
  const begun = [ownDirectory, 'lost+found', ...ours];
  if (names.every(({ text }) => text !== undefined && begun.includes(text))) return 'empty';
  if (await driver.isStore(directory, named)) return 'foreign';
  throw overlayError(
    'ERR_OVERLAY_STORE_ROOT',
    `${directory.shown} is not empty, and no store for the driver ${driver.name}`,
    "Name the storage driver's own directory, or an empty one",
    { path: directory.shown },
  );
}

function driverInMarker(text: string): string | undefined {
  try {
    return (JSON.parse(text) as { driver?: string }).driver;
  } catch {
    return undefined;
  }
}

async function initialise(directory: StoreDirectory, driver: Driver): Promise<void> {
  using _ = await directory.lock('', 'exclusive');
  const state = await stateOf(directory, driver);
  if (state === 'own') return;
  if (state === 'foreign') throw takenMeanwhile(directory);
  await makeOwnDirectories(directory, driver.directories);
  const marker = `${JSON.stringify({ version: 1, driver: driver.name })}\n`;
  await change(directory, [replaceFile(markerName, marker, 0o600), sync(ownDirectory), sync('')]);
}

const takenMeanwhile = ({ shown }: StoreDirectory): OverlayError =>
  overlayError(
    'ERR_OVERLAY_STORE_ROOT',
    `${shown} was empty, and another program has begun a store in it`,
    'Name a directory that no other program uses',
    { path: shown },
  );

async function makeOwnDirectories(directory: StoreDirectory, more: Driver['directories']): Promise<void> {
  const own = [ownDirectory, newDirectory, removedDirectory].map((name) => [name, 0o700] as const);
  const wanted = [...own, ...more];
  const there = await directory.read(wanted.map(([name]) => name));
  const missing = wanted.filter((_, index) => there[index]?.type === 'missing');
  await change(directory, [...missing.map(([name, mode]) => makeDirectory(name, mode)), sync('')]);
}

async function change(directory: StoreDirectory, steps: readonly Step[]): Promise<void> {
  await directory.run(steps, true).catch((error) => {
    throw explainStore(error, `making ${directory.shown} a store`);
  });
}
