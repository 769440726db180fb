/**
 * Docker's legacy overlay: the kernel stacks one lower alone, so that every image layer is a whole tree, `root`, whose files
 * are linked to those of its parent's; a container is an upper on the nearest tree below it, which `lower-id` names. Files are never
 * changed in place, since all names of an inode would change with it. What an image layer changes is kept beside its tree,
 * in `diff`, of which Docker's driver takes no notice.
 * @module
 */
import { markSteps } from './children.ts';
import type { StoreDirectory } from './directory.ts';
import {
  type Driver,
  type Filling,
  fileText,
  type LayerDraft,
  type LayerPlan,
  type LayerRecord,
  type Placing,
} from './driver.ts';
import type { Entry } from './entry.ts';
import { layerDamaged } from './errors.ts';
import { isId } from './ids.ts';
import { linkMerged } from './link-merged.ts';
import { problems } from './overlay-check.ts';
import { damagedSidecar, decodeSidecar, hasDamagedSidecar, sidecarName } from './sidecar.ts';
import {
  exchange,
  expectBytes,
  makeDirectory,
  removeTree,
  rename,
  type Step,
  sync,
  unlink,
  writeFile,
} from './steps.ts';

export const overlay: Driver = {
  name: 'overlay',
  directories: [],
  names: ['root', 'diff', 'upper', 'work', 'lower-id', 'committed', sidecarName],
  isLayer: (entries) => ['root', 'upper', 'lower-id'].some((name) => entries.get(name)?.type !== 'missing'),
  record,
  chain,
  parents,
  create,
  withdraw: () => [],
  content: (layer) => (!isTree(layer.entries) ? 'upper' : has(layer.entries, 'diff') ? 'diff' : 'root'),
  mounted: (layer) => (isTree(layer.entries) ? 'root' : 'upper'),
  tree: (layer) => (isTree(layer.entries) && has(layer.entries, 'diff') ? 'root' : undefined),
  parts: (layer) => {
    const { id, entries, readonly } = layer;
    if (isTree(entries) || readonly) return { lower: lowersOf(id, entries) };
    return { lower: [`${lowerId(entries)}/root`], upper: `${id}/upper`, work: `${id}/work` };
  },
  difference,
  fill,
  problems,
  isStore: async (directory, names) => {
    const paths = names.filter(isId).flatMap((id) => [`${id}/root`, `${id}/lower-id`]);
    return (await directory.read(paths)).some(({ type }) => type === 'directory' || type === 'file');
  },
  dangling: async () => [],
};

type Entries = LayerRecord['entries'];

const has = (entries: Entries, name: string): boolean => entries.get(name)?.type === 'directory';

/** Whether the layer is a whole tree. */
export const isTree = (entries: Entries): boolean => has(entries, 'root');

/** The tree that an upper lies on; undefined: nothing says so. */
export function lowerId(entries: Entries): string | undefined {
  const text = fileText(entries.get('lower-id'));
  return text !== undefined && isId(text) ? text : undefined;
}

/** What a layer shows, as lowers. */
const lowersOf = (id: string, entries: Entries): readonly string[] =>
  isTree(entries) ? [`${id}/root`] : [`${id}/upper`, `${lowerId(entries)}/root`];

function record(id: string, entries: Entries): LayerRecord {
  const sidecar = decodeSidecar(entries.get(sidecarName), id);
  const kind = sidecar?.kind ?? (isTree(entries) ? 'image' : 'container');
  const readonly = kind === 'image' || entries.get('committed')?.type === 'file';
  return { id, entries, sidecar, kind, readonly };
}

async function chain(
  directory: StoreDirectory,
  { id, entries, sidecar }: LayerRecord,
): Promise<readonly string[]> {
  if (hasDamagedSidecar({ entries, sidecar })) throw layerDamaged(id, directory.shown, damagedSidecar);
  if (isTree(entries)) return sidecar?.chain ?? [];
  const lower = lowerId(entries);
  if (lower === undefined) throw layerDamaged(id, directory.shown, '`lower-id` does not name a layer');
  if (sidecar !== undefined) return sidecar.chain;
  const init = initOf(id);
  const [beside] = await directory.read([`${init}/lower-id`]);
  return fileText(beside) === lower ? [init, lower] : [lower];
}

// Docker's daemon begins a container as a copy of a layer that it names after it. The copy says nothing of that.
const initOf = (id: string): string => `${id}-init`;

async function parents(
  _directory: StoreDirectory,
  layers: readonly LayerRecord[],
): Promise<ReadonlyMap<string, string>> {
  const lowers = new Map(
    layers.map(({ id, entries }) => [id, isTree(entries) ? undefined : lowerId(entries)] as const),
  );
  return new Map(
    layers.flatMap(({ id, sidecar }) => {
      const lower = lowers.get(id);
      const init = lower !== undefined && lowers.get(initOf(id)) === lower ? initOf(id) : lower;
      const parent = sidecar?.chain[0] ?? init;
      return parent === undefined ? [] : [[id, parent] as const];
    }),
  );
}

async function create(directory: StoreDirectory, { parent }: LayerDraft): Promise<LayerPlan> {
  if (parent === undefined) {
    return { prepare: (at) => [makeDirectory(`${at}/root`, 0o755)], expect: [], publish: [], withdraw: [] };
  }
  const { id, entries } = parent;
  const lower = isTree(entries) ? id : lowerId(entries);
  if (lower === undefined) throw layerDamaged(id, directory.shown, '`lower-id` does not name a layer');
  return {
    ...(isTree(entries) ? {} : { seed: { from: `${id}/upper`, to: 'upper' } }),
    prepare: (at) => [
      // What is mounted has its root from here.
      makeDirectory(`${at}/upper`, entries.get(isTree(entries) ? 'root' : 'upper')?.mode ?? 0o755),
      makeDirectory(`${at}/work`, 0o700),
      writeFile(`${at}/lower-id`, lower, 0o600),
    ],
    expect: unchanged(parent),
    publish: markSteps(parent),
    withdraw: [],
  };
}

// An empty image becomes a tree when it is filled, and what lies on it lies on another then. What it is says the sidecar.
function unchanged({ id, entries }: LayerRecord): readonly Step[] {
  return [sidecarName, 'lower-id'].flatMap((name) => {
    const there = entries.get(name);
    return fileText(there) === undefined
      ? []
      : [expectBytes(`${id}/${name}`, there?.bytes ?? Buffer.alloc(0))];
  });
}

async function difference(
  directory: StoreDirectory,
  { id, entries }: LayerRecord,
  [parent]: readonly string[],
): ReturnType<Driver['difference']> {
  const lower = parent === undefined ? [] : await shownBy(directory, parent);
  if (!isTree(entries)) return { lower, upper: `${id}/upper`, work: `${id}/work` };
  // Of a tree that another program has made nothing tells what it has changed.
  return has(entries, 'diff') ? { lower, upper: `${id}/diff` } : { lower: [], upper: `${id}/root` };
}

async function shownBy(directory: StoreDirectory, id: string): Promise<readonly string[]> {
  const names = ['root', 'lower-id'];
  const there = await directory.read(names.map((name) => `${id}/${name}`));
  const entries = new Map(names.map((name, index) => [name, there[index] as Entry]));
  if (isTree(entries) || lowerId(entries) !== undefined) return lowersOf(id, entries);
  throw layerDamaged(id, directory.shown, '`lower-id` does not name a layer');
}

// An image layer becomes a tree when it is filled; until then it is an upper that nothing is written to. It is one from the
// moment that `root` is there: `diff` comes first, and what the upper had goes last.
async function fill(
  directory: StoreDirectory,
  { kind, chain: [parent], options }: Filling,
  at: string,
  into: string,
): Promise<Placing> {
  const content = `${at}/content`;
  if (kind !== 'image' || parent === undefined) {
    return { place: [exchange(content, `${into}/${parent === undefined ? 'root' : 'upper'}`)], tidy: [] };
  }
  const tree = `${at}/tree`;
  await directory.run([makeDirectory(tree, 0o755)], false);
  await linkMerged(directory, [content, ...(await shownBy(directory, parent))], tree, options);
  return {
    place: [removeTree(`${into}/diff`), rename(content, `${into}/diff`), rename(tree, `${into}/root`)],
    tidy: [removeTree(`${into}/upper`), removeTree(`${into}/work`), unlink(`${into}/lower-id`), sync(into)],
  };
}
