/**
 * The store that a command is about.
 * @module
 */
import { readdir } from 'node:fs/promises';
import { overlayError } from '../../errors.ts';
import { absolutePath, showPath } from '../../paths.ts';
import { openStore } from '../../store/open.ts';
import type { LayerStore, StoreOptions } from '../../store/types.ts';
import { type Arguments, type Flags, pathArgument } from '../arguments.ts';
import { UsageError } from '../usage.ts';

/** Flags of every command. */
export const storeFlags: Flags = {
  root: {
    type: 'string',
    value: 'DIR',
    help: "the storage driver's own directory, as /var/lib/docker/overlay2",
  },
  driver: { type: 'string', value: 'NAME', help: 'overlay2, overlay; overlay2' },
  force: { type: 'boolean', help: 'take a root that others own or may write to' },
};

/** Flags of those that change the store. */
export const writingFlags: Flags = {
  ...storeFlags,
  durability: { type: 'string', value: 'HOW', help: 'syncfs, metadata, none; syncfs' },
  foreign: { type: 'string', value: 'write', help: 'change a store that another program has made' },
  'lock-timeout': { type: 'string', value: 'MS', help: 'how long to wait for who is at work on it; 10000' },
};

/** Opens the store, does something with it, and closes it. It is only read unless `access` says otherwise. */
export async function withStore<T>(
  args: Arguments,
  access: 'read' | 'write' | 'init',
  work: (store: LayerStore) => Promise<T>,
): Promise<T> {
  const given = args.text('root');
  if (given === undefined) throw new UsageError('--root is missing');
  const root = absolutePath(pathArgument(given), 'root');
  if (access !== 'init') await refuseNoStore(root);
  await using store = await openStore(root, { ...optionsOf(args), readonly: access === 'read' });
  return await work(store);
}

function optionsOf(args: Arguments): StoreOptions {
  const [lockTimeout, force] = [args.text('lock-timeout'), args.flag('force')];
  if (lockTimeout !== undefined && !/^\d+$/.test(lockTimeout)) {
    throw new UsageError(`--lock-timeout ${lockTimeout}: a number of milliseconds is wanted`);
  }
  const words = ['durability', 'foreign'].flatMap((name) => {
    const value = args.text(name);
    return value === undefined ? [] : [[name, value] as const];
  });
  return {
    driver: (args.text('driver') ?? 'overlay2') as StoreOptions['driver'],
    ...Object.fromEntries(words),
    ...(force === undefined ? {} : { force }),
    ...(lockTimeout === undefined ? {} : { lockTimeout: Number(lockTimeout) }),
  };
}

// The library would make a store of what is empty or missing; whoever mistypes a path wants to be told.
async function refuseNoStore(root: Buffer): Promise<void> {
  const names = await readdir(root).catch((error: NodeJS.ErrnoException) =>
    error.code === 'ENOENT' ? undefined : ['?'],
  );
  if (names !== undefined && names.length > 0) return;
  throw overlayError(
    'ERR_OVERLAY_STORE_ROOT',
    `${showPath(root)} ${names === undefined ? 'does not exist' : 'is empty'}`,
    "Name the storage driver's own directory; `overlayfs store init` makes a store",
    { path: showPath(root) },
  );
}
