/**
 * A change set against two naive views: everything that the one says must be what lies between the others, and nothing
 * may be missing.
 */
import { expect } from 'vitest';
import type { Change, ChangeOptions } from '../../lib/index.ts';
import type { Seen, View } from './view.ts';

/** One change, with paths as latin1. */
export interface Told extends Pick<Change, 'kind' | 'type' | 'previousType' | 'replaces' | 'fields'> {
  readonly path: string;
  readonly from: string | undefined;
  readonly size: number;
  readonly linkGroup: string | undefined;
}

/** By path. */
export type ChangeSet = ReadonlyMap<string, Told>;

/** Of changes that have their order, each path once. */
export function changeSet(all: readonly Change[], { order = 'path' }: ChangeOptions = {}): ChangeSet {
  const paths = all.map(({ pathBytes }) => pathBytes);
  const latin1 = (bytes: Buffer | undefined) => bytes?.toString('latin1');
  if (order === 'path') {
    const rank = (path: Buffer) => (path.equals(Buffer.from('.')) ? Buffer.alloc(0) : path);
    expect(paths.map(latin1)).toEqual(
      [...paths].sort((a, b) => Buffer.compare(rank(a), rank(b))).map(latin1),
    );
  }
  const set = new Map(
    all.map((change) => {
      const { kind, type, previousType, replaces, fields, size, linkGroup } = change;
      const path = change.pathBytes.toString('latin1');
      const from = latin1(change.fromBytes);
      const told: Told = {
        path,
        from,
        kind,
        type,
        previousType,
        replaces,
        fields,
        size: Number(size),
        linkGroup: linkGroup?.toString(),
      };
      return [path, told] as const;
    }),
  );
  expect(set.size).toBe(all.length);
  return set;
}

/** Checks everything that the change set says, and what it does not say. */
export function expectBetween(
  set: ChangeSet,
  before: View,
  after: View,
  { renames = true, expand = false }: ChangeOptions = {},
): void {
  const relation = new Relation(set, before, expand);
  // Which paths there are, and which are as they were.
  expect(relation.paths()).toEqual(Object.keys(after).sort());
  for (const [path, seen] of Object.entries(after)) {
    const origin = relation.origin(path);
    const told = set.get(path);
    if (told === undefined) {
      expect({ path, ...comparable(seen) }).toEqual({ path, ...comparable(before[origin ?? ''] as Seen) });
    } else {
      expectTold(told, seen, before, relation);
    }
  }
  for (const told of set.values()) {
    if (told.kind === 'deleted') {
      expect({ path: told.path, type: told.type }).toEqual({
        path: told.path,
        type: before[told.from ?? told.path]?.type,
      });
      expect(told.path in after ? [told.path, 'is there'] : []).toEqual([]);
    }
  }
  if (!renames) expect([...set.values()].filter(({ kind, from }) => kind === 'renamed' || from)).toEqual([]);
  if (expand) expectAccounted(set, relation, before, after);
}

// Every path of the before-view is somewhere, or is said to be gone.
function expectAccounted(set: ChangeSet, relation: Relation, before: View, after: View): void {
  const known = new Set(Object.keys(after).map((path) => relation.origin(path)));
  for (const { kind, path, from } of set.values()) {
    if (kind === 'deleted' || kind === 'replaced') known.add(from ?? path);
    // What was there is gone, and its path has this entry.
    if (kind === 'renamed') known.add(relation.place(path));
  }
  const inReplaced = (path: string) =>
    [...set.values()].some(({ kind, path: top }) => kind === 'renamed' && path.startsWith(`${top}/`));
  expect(Object.keys(before).filter((path) => !known.has(path) && !inReplaced(path))).toEqual([]);
}

function expectTold(told: Told, seen: Seen, before: View, relation: Relation): void {
  const { path, kind, from, type, previousType, replaces, size } = told;
  const there = before[relation.place(path) ?? ''];
  const was = before[from ?? path];
  const about = { path, kind };
  expect({ ...about, type, size }).toEqual({ ...about, type: seen.type, size: seen.size });
  switch (kind) {
    case 'added':
      expect({ ...about, there: there?.type }).toEqual({ ...about, there: undefined });
      return;
    case 'replaced':
      expect({ ...about, previousType }).toEqual({ ...about, previousType: was?.type });
      return;
    case 'renamed':
      expect({ ...about, replaces }).toEqual({ ...about, replaces: there?.type });
      break;
    default:
      expect(told.fields).not.toEqual([]);
  }
  expect({ ...about, type: was?.type }).toEqual({ ...about, type });
  const differ = differences(was as Seen, seen);
  expect({ ...about, fields: [...told.fields].sort() }).toEqual({ ...about, fields: differ });
  const content = ['content', 'target', 'rdev'].some((field) => differ.includes(field));
  if (kind !== 'renamed') expect(about).toEqual({ path, kind: content ? 'modified' : 'metadata' });
}

/** Names of one inode of the upper have one group, and only they; beside a naive view of the upper itself. */
export function expectLinks(set: ChangeSet, upper: View): void {
  const groups = new Map<string, string>();
  for (const { path, kind, linkGroup } of set.values()) {
    const seen = upper[path];
    if (kind === 'deleted' || seen === undefined || seen.type === 'directory') continue;
    expect({ path, linked: linkGroup !== undefined }).toEqual({ path, linked: seen.group !== null });
    if (linkGroup === undefined || seen.group === null) continue;
    const group = groups.get(linkGroup) ?? seen.group;
    expect({ path, group }).toEqual({ path, group: seen.group });
    groups.set(linkGroup, group);
  }
  expect(new Set(groups.values()).size).toBe(groups.size);
}

function differences(before: Seen, after: Seen): string[] {
  const names = new Set([...Object.keys(before.xattrs), ...Object.keys(after.xattrs)]);
  const fields: readonly (readonly [string, unknown, unknown])[] = [
    ['mode', before.mode, after.mode],
    ['uid', before.owner[0], after.owner[0]],
    ['gid', before.owner[1], after.owner[1]],
    ['mtime', before.mtime, after.mtime],
    ['size', before.size, after.size],
    ['content', before.content, after.content],
    ['target', before.target, after.target],
    ['rdev', `${before.device}`, `${after.device}`],
    ...[...names].map((name) => [name, before.xattrs[name], after.xattrs[name]] as const),
  ];
  return fields
    .filter(([, one, other]) => one !== other)
    .map(([name]) => name)
    .sort();
}

function comparable({ group: _, ...seen }: Seen) {
  return seen;
}

/** What a change set says of every path, with the before-view alone beside it. */
class Relation {
  readonly #set: ChangeSet;
  readonly #before: View;
  readonly #expand: boolean;
  readonly #moved: ReadonlySet<string>;
  readonly #children = new Map<string, string[]>();

  constructor(set: ChangeSet, before: View, expand: boolean) {
    this.#set = set;
    this.#before = before;
    this.#expand = expand;
    this.#moved = new Set(
      [...set.values()].flatMap(({ kind, from }) => (kind === 'renamed' ? [from ?? ''] : [])),
    );
    for (const path of Object.keys(before)) {
      if (path !== '.') this.#children.set(parent(path), [...(this.#children.get(parent(path)) ?? []), path]);
    }
  }

  /** Where in the before-view a path of the after-view was; nothing for what is new. */
  origin(path: string): string | undefined {
    const told = this.#set.get(path);
    if (told !== undefined) {
      if (['added', 'replaced', 'deleted'].includes(told.kind)) return undefined;
      return told.from ?? path;
    }
    return path === '.' ? path : this.place(path);
  }

  /**
   * The path of the before-view that has the place of this one: by that name where the directory above was. A directory that
   * was replaced has the place of the old one where what that held is told.
   */
  place(path: string): string | undefined {
    const directory = parent(path);
    const isReplaced = this.#expand && this.#set.get(directory)?.kind === 'replaced';
    const old = isReplaced ? this.place(directory) : undefined;
    // What was renamed away has taken along what it held.
    const above = isReplaced ? (this.#moved.has(old ?? '') ? undefined : old) : this.origin(directory);
    return above === undefined ? undefined : join(above, path.slice(path.lastIndexOf('/') + 1));
  }

  /** Every path of the after-view. */
  paths(): string[] {
    const found = new Set<string>(['.']);
    for (const { kind, path } of this.#set.values()) if (kind !== 'deleted') found.add(path);
    const inherit = (path: string, origin: string): void => {
      for (const child of this.#children.get(origin) ?? []) {
        const here = join(path, child.slice(child.lastIndexOf('/') + 1));
        const told = this.#set.get(here);
        if (told !== undefined || this.#moved.has(child)) continue;
        found.add(here);
        inherit(here, child);
      }
    };
    for (const path of [...found]) {
      const origin = this.origin(path);
      if (origin !== undefined && this.#before[origin]?.type === 'directory') inherit(path, origin);
    }
    return [...found].sort();
  }
}

function parent(path: string): string {
  const slash = path.lastIndexOf('/');
  return slash < 0 ? '.' : path.slice(0, slash);
}

function join(directory: string, name: string): string {
  return directory === '.' ? name : `${directory}/${name}`;
}
