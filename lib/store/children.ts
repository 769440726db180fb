/**
 * The mark by which everybody knows that something lies on top of a layer.
 * @module
 */
import { childrenOf, type StoreContext } from './context.ts';
import type { HeldLock } from './directory.ts';
import type { LayerRecord } from './driver.ts';
import { ensureFile, expectBytes, type Step, sync, unlink } from './steps.ts';

export const isMarked = ({ entries }: LayerRecord): boolean => entries.get('committed')?.type === 'file';

/** Marks a parent as read-only. A mark that is there may be taken back meanwhile by whoever made it and has failed. */
export function markSteps(parent: LayerRecord): Step[] {
  const path = `${parent.id}/committed`;
  return isMarked(parent)
    ? [expectBytes(path, parent.entries.get('committed')?.bytes ?? Buffer.alloc(0))]
    : [ensureFile(path, 0o600), sync(parent.id)];
}

/**
 * Takes the mark back from a parent that had none and has got no child. With its exclusive lock nobody else can have marked it;
 * without, others may have been at work on the same parent.
 */
export async function unmark(
  store: StoreContext,
  { id }: LayerRecord,
  lock: HeldLock | undefined,
): Promise<void> {
  const { directory, durability } = store;
  using own = lock === undefined ? await directory.tryLock(id) : undefined;
  if (lock === undefined && own === undefined) return;
  if (own !== undefined && (await childrenOf(store, id)).length > 0) return;
  await directory.run([unlink(`${id}/committed`), sync(id)], durability !== 'none');
}
