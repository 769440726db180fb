/**
 * Change sets that are no work of the change engine: from two naive views, or written by hand.
 */
import { binding } from '../../lib/addon.ts';
import type { Change, ChangeKind } from '../../lib/changes/change.ts';
import { type ChangeOrigin, origin } from '../../lib/changes/origin.ts';
import { checkStack, settleStack } from '../../lib/layer/stack.ts';
import type { LayerStack } from '../../lib/types.ts';
import type { Seen, View } from './view.ts';

/** What a change must say; the rest is made up. */
export interface Written {
  readonly kind: ChangeKind;
  /** As latin1. */
  readonly path: string;
  readonly type?: Change['type'];
  readonly from?: string;
  readonly replaces?: Change['type'];
  readonly fields?: readonly string[];
  readonly linkGroup?: bigint;
}

/** Changes of this stack, as `changes()` would give them; the layers are open until it is disposed of. */
export async function writtenChanges(
  stack: LayerStack,
  written: readonly Written[],
): Promise<AsyncDisposable & { readonly all: readonly Change[] }> {
  const { native } = await settleStack(checkStack(stack));
  const walk = await binding().openChanges(native, {
    compare: 'none',
    inOrder: false,
    renames: false,
    expand: false,
    dirTimes: false,
    include: [],
    exclude: [],
    threads: 1,
  });
  const here: ChangeOrigin = { stack: native, compared: true, walk: () => walk };
  const all = written.map(({ kind, path, type = 'file', from, fields = [], ...more }) => {
    const fromBytes = from === undefined ? {} : { from, fromBytes: Buffer.from(from, 'latin1') };
    const pathBytes = Buffer.from(path, 'latin1');
    const change: Change = {
      kind,
      path,
      pathBytes,
      type,
      fields,
      size: 0n,
      allocatedBytes: 0n,
      ...fromBytes,
      ...more,
    };
    return Object.assign(change, { [origin]: here });
  });
  return { all, [Symbol.asyncDispose]: () => binding().closeChanges(walk) };
}

/** What tells one view from the other, path by path, without renames; the times of directories too. */
export function compareViews(before: View, after: View): Written[] {
  const written: Written[] = [];
  const changedGroups = new Set<string>();
  const kinds = new Map<string, ChangeKind>();
  for (const [path, now] of Object.entries(after)) {
    const was = isBelowAny(path, kinds, 'replaced') ? undefined : before[path];
    const kind = was === undefined ? 'added' : difference(was, now);
    if (kind === undefined) continue;
    kinds.set(path, kind);
    if (now.group !== null) changedGroups.add(now.group);
  }
  const groups = [...changedGroups];
  for (const [path, now] of Object.entries(after)) {
    const linked = now.group === null ? -1 : groups.indexOf(now.group);
    const kind = kinds.get(path) ?? (linked < 0 ? undefined : 'metadata');
    if (kind === undefined) continue;
    const group = linked < 0 ? {} : { linkGroup: BigInt(linked + 1) };
    written.push({ kind, path, type: now.type, ...group });
  }
  const gone = new Map<string, ChangeKind>();
  for (const [path, was] of Object.entries(before)) {
    if (path in after || isBelowAny(path, gone, 'deleted') || isBelowAny(path, kinds, 'replaced')) continue;
    gone.set(path, 'deleted');
    written.push({ kind: 'deleted', path, type: was.type });
  }
  return [...written, ...touched(written, before, after)];
}

// Directories in which names change, and that look the same all the same: exchanged ones that are equally old.
function touched(written: readonly Written[], before: View, after: View): Written[] {
  const known = new Set(written.map(({ path }) => path));
  const parents = written
    .filter(({ kind }) => kind !== 'modified' && kind !== 'metadata')
    .map(({ path }) => path.slice(0, Math.max(path.lastIndexOf('/'), 0)) || '.');
  return [...new Set(parents)]
    .filter((path) => !known.has(path) && path in before && path in after)
    .map((path) => ({ kind: 'metadata', path, type: 'directory' }));
}

function difference(was: Seen, now: Seen): ChangeKind | undefined {
  if (was.type !== now.type) return 'replaced';
  const content = ({ size, target, content, device }: Seen) =>
    JSON.stringify([size, target, content, device]);
  if (content(was) !== content(now)) return 'modified';
  const rest = ({ mode, owner, mtime, xattrs, group }: Seen) =>
    JSON.stringify([mode, owner, mtime, xattrs, group]);
  return rest(was) === rest(now) ? undefined : 'metadata';
}

function isBelowAny(path: string, kinds: ReadonlyMap<string, ChangeKind>, kind: ChangeKind): boolean {
  for (let at = path.lastIndexOf('/'); at > 0; at = path.lastIndexOf('/', at - 1)) {
    if (kinds.get(path.slice(0, at)) === kind) return true;
  }
  return false;
}
