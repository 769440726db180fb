/**
 * Whether what has a child is marked as read-only, and nothing else is.
 * @module
 */
import type { LayerRecord } from './driver.ts';
import { type Problem, untidiness } from './problem.ts';
import { ensureFile, type Step, sync, unlink } from './steps.ts';

/** What is wrong with a layer's `committed`. Undefined: it has no child that is known, and there may be others. */
export function markProblems(
  { id, entries, sidecar }: LayerRecord,
  hasChild: boolean | undefined,
): Problem[] {
  const committed = entries.get('committed')?.type === 'file';
  const path = `${id}/committed`;
  // containers/storage marks nothing.
  if (sidecar === undefined || hasChild === undefined || committed === hasChild) return [];
  if (hasChild) {
    const repair: Step[] = [ensureFile(path, 0o600), sync(id)];
    return [
      untidiness(
        'WARN_OVERLAY_STORE_MARK',
        path,
        'it has a child, and is not marked as read-only',
        repair,
        id,
      ),
    ];
  }
  if (sidecar.kind === 'image') return [];
  const repair: Step[] = [unlink(path), sync(id)];
  return [
    untidiness('WARN_OVERLAY_STORE_MARK', path, 'it is marked as read-only, and has no child', repair, id),
  ];
}
