/** Change sets as `docker diff` and `podman diff` print them. */
import { expect } from 'vitest';
import type { Change, ChangeOptions } from '../../../lib/index.ts';
import type { LayerStore } from '../../../lib/store/index.ts';

const letters = {
  added: 'A',
  deleted: 'D',
  modified: 'C',
  metadata: 'C',
  replaced: 'C',
  renamed: 'A',
} satisfies Record<Change['kind'], string>;

/** What `changes()` tells of a layer, a line each, paths as latin1. There are no letters for renames. */
export async function lettersOf(
  store: LayerStore,
  id: string,
  options: ChangeOptions = {},
): Promise<string[]> {
  const lines: string[] = [];
  await using stream = store.changes(id, { renames: false, ...options });
  for await (const { kind, pathBytes } of stream)
    lines.push(`${letters[kind]} /${pathBytes.toString('latin1')}`);
  return lines;
}

/** What each says and the other does not. */
export interface Differences {
  readonly onlyTheirs: readonly string[];
  readonly onlyOurs: readonly string[];
}

/** Checks that two tell the same, but for these. */
export function expectSame(theirs: string, ours: readonly string[], differences: Differences): void {
  const said = theirs.split('\n').filter((line) => line !== '');
  const without = (all: readonly string[], others: readonly string[]) =>
    all.filter((line) => !others.includes(line)).sort();
  expect({ onlyTheirs: without(said, ours), onlyOurs: without(ours, said) }).toEqual({
    onlyTheirs: [...differences.onlyTheirs].sort(),
    onlyOurs: [...differences.onlyOurs].sort(),
  });
}

/** With every directory above, that has no line of its own, as changed: both list those. */
export function withParents(lines: readonly string[]): string[] {
  const own = new Set(lines.map((line) => line.slice(2)));
  const parents = new Set<string>();
  for (const path of own) {
    for (let at = path.lastIndexOf('/'); at > 0; at = path.lastIndexOf('/', at - 1))
      parents.add(path.slice(0, at));
  }
  return [...lines, ...[...parents].filter((path) => !own.has(path)).map((path) => `C ${path}`)];
}
