/**
 * What killed processes have left in a store: found, and removed. A complete layer is never garbage.
 * @module
 */
import { allLayers, type StoreContext } from './context.ts';
import type { StoreDirectory } from './directory.ts';
import { explainStore } from './errors.ts';
import { newDirectory, ownDirectory, removedDirectory } from './layout.ts';
import { lockExclusive, removeTree, type Step, sync, unlink } from './steps.ts';
import type { Garbage } from './types.ts';

/** Finds what can go, and removes it unless `dryRun`. */
export async function collectGarbage(store: StoreContext, dryRun: boolean): Promise<Garbage[]> {
  const { directory, driver } = store;
  // Whoever makes or removes a layer holds it shared while names change.
  using _ = await lockStore(directory);
  const found: Garbage[] = [];
  for (const [kind, parent] of leftovers) {
    for (const path of await entriesOf(directory, parent)) {
      const steps = [lockExclusive(path), removeTree(path)];
      const outcome = await sweep(directory, path, steps, dryRun);
      if (outcome !== undefined) found.push({ kind, path, ...outcome });
    }
  }
  for (const path of await driver.dangling(directory, () => allLayers(store))) {
    const outcome = await sweep(directory, undefined, [unlink(path), sync('l')], dryRun);
    found.push({ kind: 'dangling-link', path, ...outcome, removed: outcome?.removed ?? false });
  }
  return found;
}

/** Holds off everybody who gives layers their names or takes them. */
export async function lockStore(directory: StoreDirectory): Promise<Disposable> {
  const [own] = await directory.read([ownDirectory]);
  if (own?.type !== 'directory') return { [Symbol.dispose]: () => {} };
  return directory.lock(ownDirectory, 'exclusive').catch((error) => {
    throw explainStore(error, `the store ${directory.shown}`);
  });
}

const leftovers = [
  ['half-made', newDirectory],
  ['removed', removedDirectory],
] as const;

/** What stands in a directory of ours, as paths below the root. */
export async function entriesOf(directory: StoreDirectory, parent: string): Promise<string[]> {
  const [there] = await directory.read([parent]);
  if (there?.type !== 'directory') return [];
  return (await directory.names(parent))
    .flatMap(({ text }) => (text === undefined ? [] : [`${parent}/${text}`]))
    .sort();
}

// Undefined: whoever makes it lives.
async function sweep(
  directory: StoreDirectory,
  locked: string | undefined,
  steps: readonly Step[],
  dryRun: boolean,
): Promise<Pick<Garbage, 'removed' | 'error'> | undefined> {
  if (locked !== undefined) {
    const lock = await directory.tryLock(locked).catch(() => undefined);
    if (lock === undefined) return undefined;
    lock.release();
  }
  if (dryRun) return { removed: false };
  try {
    await directory.run(steps, true);
    return { removed: true };
  } catch (error) {
    return { removed: false, error: explainStore(error, `clearing up in ${directory.shown}`) };
  }
}
