// What was added, deleted and modified, in one form for every tool, so that two answers can be compared: a directory
// stands for all that it holds, and what is of another type now is modified.

const above = (path) => path.slice(0, Math.max(0, path.lastIndexOf('/')));
const isBelow = (path, set) => {
  for (let at = above(path); at !== ''; at = above(at)) if (set.has(at)) return true;
  return false;
};
const topmost = (set) => new Set([...set].filter((path) => !isBelow(path, set)));
const without = (set, unwanted) => new Set([...set].filter((path) => !unwanted(path)));
const DIRECTORY = 0o040000;

/** A tool's answer, to be filled. */
export const answer = () => ({ added: new Set(), deleted: new Set(), modified: new Set(), renamed: [] });

/** What two scans of a tree differ by: the truth, and which directories differ in their time alone. */
export function truthOf(before, after) {
  const truth = { ...answer(), times: new Set(), retyped: new Set(), before };
  for (const [path, one] of Object.entries(after)) {
    const was = before[path];
    if (was === undefined) truth.added.add(path);
    else if (was.kind !== one.kind) truth.retyped.add(path);
    else if (was.same !== one.same) truth.modified.add(path);
    else if (was.mtime !== one.mtime) (one.kind === DIRECTORY ? truth.times : truth.modified).add(path);
  }
  for (const path of Object.keys(before)) if (after[path] === undefined) truth.deleted.add(path);
  for (const path of truth.retyped) truth.modified.add(path);
  return truth;
}

/** The same with renames spelt out: what lay in a directory came along, and may differ from what was at its new place. */
function spelledOut({ added, deleted, modified, renamed }, before) {
  if (renamed.length === 0) return { added, deleted, modified };
  const at = (path, top) => path === top || path.startsWith(`${top}/`);
  const view = new Map(Object.entries(before));
  for (const [from] of renamed) for (const path of Object.keys(before)) if (at(path, from)) view.delete(path);
  for (const [from, to] of renamed)
    for (const [path, one] of Object.entries(before))
      if (at(path, from)) view.set(to + path.slice(from.length), one);
  const differs = (path) => JSON.stringify(view.get(path)) !== JSON.stringify(before[path]);
  const there = [...view.keys()];
  return {
    added: new Set([...added, ...there.filter((path) => before[path] === undefined)]),
    deleted: new Set([
      ...deleted,
      ...Object.keys(before).filter((path) => !view.has(path) && !added.has(path)),
    ]),
    modified: new Set([...modified, ...there.filter((path) => before[path] !== undefined && differs(path))]),
  };
}

/** The part of an answer that concerns one directory, in the common form. */
function formOf(given, truth, directory) {
  const inside = (set) => without(set, (path) => !path.startsWith(`${directory}/`));
  const { added: came, deleted: went, modified } = spelledOut(given, truth.before);
  const both = [...came].filter((path) => truth.retyped.has(path));
  const changed = new Set([...modified, ...both]);
  // Below what is of another type now everything is new, or gone.
  const settled = (path) => both.includes(path) || isBelow(path, truth.retyped);
  const [all, none] = [topmost(inside(without(came, settled))), topmost(inside(without(went, settled)))];
  const named = new Set([...came, ...went, ...changed]);
  const leadsThere = (path) => [...named].some((other) => other.startsWith(`${path}/`));
  const told = without(inside(changed), (path) => {
    if (isBelow(path, truth.retyped) || all.has(path) || isBelow(path, all)) return true;
    if (truth.modified.has(path)) return false;
    return truth.times.has(path) || (truth.before[path]?.kind === DIRECTORY && leadsThere(path));
  });
  return [all, none, told].map((set) => [...set].sort());
}

/** Whether an answer is right about one directory. */
export function isRight(given, truth, directory) {
  return JSON.stringify(formOf(given, truth, directory)) === JSON.stringify(formOf(truth, truth, directory));
}
