/**
 * Looking for what is wrong in a store, and mending it.
 * @module
 */
import { listOverlays } from '../inspect/mount-table.ts';
import { allLayers, type StoreContext } from './context.ts';
import type { LayerRecord } from './driver.ts';
import type { Name } from './entry.ts';
import { entriesOf, lockStore } from './gc.ts';
import { isId } from './ids.ts';
import { mountedElsewhere, usedAsUpper } from './in-use.ts';
import { newDirectory, removedDirectory } from './layout.ts';
import { mergedProbe } from './merged.ts';
import { damage, type Problem, untidiness } from './problem.ts';
import { damagedSidecar, hasDamagedSidecar, sidecarName } from './sidecar.ts';
import { lockExclusive, removeEmpty, removeTree } from './steps.ts';
import type { StoreFinding } from './types.ts';

/** What mending one thing can bring to light is mended in the next round. */
const MOST_ROUNDS = 4;
/** Of readdir(3). */
const DT_CHR = 2;

/** Finds what is wrong; mends what can be mended, with `repair`. */
export async function checkStore(store: StoreContext, repair: boolean): Promise<StoreFinding[]> {
  using _ = await lockStore(store.directory);
  const mended: StoreFinding[] = [];
  for (let round = 1; ; round++) {
    const problems = await examine(store);
    const done: Problem[] = [];
    if (repair && round <= MOST_ROUNDS) {
      for (const problem of problems) if (await mend(store, problem)) done.push(problem);
    }
    mended.push(...done.map((problem) => findingOf(store, problem, true)));
    if (done.length > 0) continue;
    return [...mended, ...problems.map((problem) => findingOf(store, problem, false))];
  }
}

async function examine(store: StoreContext): Promise<Problem[]> {
  const layers = await allLayers(store);
  const found = [
    ...(await leftoverProblems(store)),
    ...layers.flatMap(sidecarProblems),
    ...(await store.driver.problems(store.directory, layers)),
    ...(await mountProblems(store, layers)),
  ];
  const real: Problem[] = [];
  for (const problem of found) if (!(await isUsed(problem))) real.push(problem);
  return real;
}

// What cannot be asked is not touched.
const isUsed = async ({ use }: Problem): Promise<boolean> =>
  use !== undefined && (await use().catch(() => '')) !== undefined;

async function mend({ directory, foreign }: StoreContext, problem: Problem): Promise<boolean> {
  const { finding, repair } = problem;
  if (repair === undefined) return false;
  // Nothing in there says what its owner still needs.
  const harmless =
    finding.path?.startsWith('l/') === true || finding.path?.startsWith('.overlayfs/') === true;
  if (foreign && !(harmless && finding.id === undefined)) return false;
  const lock =
    finding.id === undefined ? undefined : await directory.tryLock(finding.id).catch(() => undefined);
  if (finding.id !== undefined && lock === undefined) return false;
  try {
    // Somebody may have mounted it since.
    if (await isUsed(problem)) return false;
    await directory.run(repair, true);
    return true;
  } catch {
    return false;
  } finally {
    lock?.release();
  }
}

function sidecarProblems(layer: LayerRecord): Problem[] {
  const { id } = layer;
  return hasDamagedSidecar(layer) ? [damage(id, `${id}/${sidecarName}`, damagedSidecar)] : [];
}

function findingOf(
  { directory, foreign }: StoreContext,
  { finding, repair }: Problem,
  repaired: boolean,
): StoreFinding {
  const { path, ...rest } = finding;
  return {
    ...rest,
    ...(path === undefined ? {} : { path: `${directory.shown}/${path}` }),
    repairable: repair !== undefined && (!foreign || finding.id === undefined),
    repaired,
  };
}

async function leftoverProblems({ directory }: StoreContext): Promise<Problem[]> {
  const found: Problem[] = [];
  for (const [parent, what] of [
    [newDirectory, 'a layer that was never finished'],
    [removedDirectory, 'a layer whose removal was not finished'],
  ] as const) {
    for (const path of await entriesOf(directory, parent)) {
      const lock = await directory.tryLock(path).catch(() => undefined);
      if (lock === undefined) continue; // whoever makes it lives
      lock.release();
      found.push(
        untidiness('WARN_OVERLAY_STORE_LEFTOVER', path, what, [lockExclusive(path), removeTree(path)]),
      );
    }
  }
  return found;
}

async function mountProblems(store: StoreContext, layers: readonly LayerRecord[]): Promise<Problem[]> {
  const { directory } = store;
  const there = await directory.readIn(
    layers.map(({ id }) => id),
    [mergedProbe, workName, `${workName}/incompat/volatile`],
  );
  const at = (index: number, which: number) => there[3 * index + which];
  // containers/storage keeps that of its layers.
  const stale = layers.filter(
    ({ sidecar }, index) => sidecar !== undefined && at(index, 0)?.type === 'directory',
  );
  const worked = layers.flatMap((layer, index) =>
    at(index, 1)?.type === 'directory' ? [{ layer, volatile: at(index, 2)?.type === 'directory' }] : [],
  );
  const names = await directory.namesIn(worked.map(({ layer }) => workPath(layer.id)));
  const left: Problem[] = [];
  for (const [index, { layer, volatile }] of worked.entries())
    left.push(...workProblems(store, layer, volatile, names[index] ?? []));
  return [
    ...stale.map((layer) => staleMerged(store, layer)),
    ...left,
    ...(await unknownMounts(store, layers)),
  ];
}

const workName = 'work/work';
const workPath = (id: string): string => `${id}/${workName}`;

// To remove it would unmount what is mounted there in another namespace.
function staleMerged(store: StoreContext, layer: LayerRecord): Problem {
  const { id } = layer;
  const path = `${id}/merged`;
  const what = 'nothing is mounted at `merged`';
  const stale = untidiness('WARN_OVERLAY_STORE_LEFTOVER', path, what, [removeEmpty(path)], id);
  return { ...stale, use: () => mountedElsewhere(store, layer) };
}

// The kernel leaves `work/work` behind, with no more in it than the whiteout that it links to for each deletion; what else
// is in it was left by a crash.
function workProblems(
  store: StoreContext,
  layer: LayerRecord,
  volatile: boolean,
  names: readonly Name[],
): Problem[] {
  const { id } = layer;
  const path = workPath(id);
  const left = names.filter(({ text, type }) => !(type === DT_CHR && text?.startsWith('#') === true));
  if (left.length === 0) return [];
  const what = volatile
    ? 'its last mount was volatile, and may have lost its last writes'
    : 'the kernel has left something unfinished in its work directory';
  const unfinished = untidiness('WARN_OVERLAY_STORE_LEFTOVER', path, what, [removeTree(path)], id);
  return [{ ...unfinished, use: () => usedAsUpper(store, layer) }];
}

async function unknownMounts(
  { directory }: StoreContext,
  layers: readonly LayerRecord[],
): Promise<Problem[]> {
  const known = new Set(layers.map(({ id }) => id));
  const prefix = `${directory.path.toString('latin1')}/`;
  return (await listOverlays()).flatMap(({ targetBytes, target }) => {
    const point = targetBytes.toString('latin1');
    const id = point.startsWith(prefix)
      ? /^([^/]+)\/merged$/.exec(point.slice(prefix.length))?.[1]
      : undefined;
    if (id === undefined || (isId(id) && known.has(id))) return [];
    return [
      {
        finding: {
          code: 'WARN_OVERLAY_STORE_UNKNOWN_MOUNT',
          severity: 'warning' as const,
          path: `${id}/merged`,
          detail: `an overlay is mounted at ${target}, and the store has no such layer`,
          fix: 'Unmount it, if nobody needs it: unmount() of the package does',
        },
      },
    ];
  });
}
