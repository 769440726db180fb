/**
 * What can be wrong with the links and lists of an overlay2 store, and what mends it. `l` is a cache: all that it says can
 * be told from the layers.
 * @module
 */
import { chainProblems } from './chain-check.ts';
import type { StoreDirectory } from './directory.ts';
import { fileText, type LayerRecord } from './driver.ts';
import type { Entry } from './entry.ts';
import { isId, isLinkName, newLinkName } from './ids.ts';
import { markProblems } from './mark-check.ts';
import { damage, type Problem, untidiness } from './problem.ts';
import { makeDirectory, makeLink, replaceFile, sync, unlink } from './steps.ts';

/** Links in `l` that lead to no layer, or to one that is called something else. */
export async function dangling(
  directory: StoreDirectory,
  allLayers: () => Promise<readonly LayerRecord[]>,
): Promise<readonly string[]> {
  const links = await readLinks(directory);
  const found = await danglingOf(directory, links, new Map());
  return hasTwoForOne(links) ? [...found, ...surplusOf(links, await allLayers())] : found;
}

const hasTwoForOne = ({ targets }: Links): boolean => {
  const ids = [...targets.values()].filter((id) => id !== undefined);
  return new Set(ids).size < ids.length;
};

// What somebody leaves who was killed over a layer that another has made then.
function surplusOf({ targets }: Links, layers: readonly LayerRecord[]): readonly string[] {
  const ownLinks = new Map(layers.map(({ id, entries }) => [id, fileText(entries.get('link'))]));
  const used = new Set(layers.flatMap(({ entries }) => lowerNames(entries.get('lower')) ?? []));
  return [...targets].flatMap(([name, id]) => {
    const own = id === undefined ? undefined : ownLinks.get(id);
    const isSurplus = own !== undefined && own !== name && targets.get(own) === id && !used.has(name);
    return isSurplus ? [`l/${name}`] : [];
  });
}

async function danglingOf(
  directory: StoreDirectory,
  { targets }: Links,
  known: ReadonlyMap<string, LayerRecord>,
): Promise<readonly string[]> {
  const isThere = (id: string) => (known.get(id)?.entries.get('diff')?.type ?? 'missing') !== 'missing';
  const ids = [
    ...new Set([...targets.values()].flatMap((id) => (id === undefined || isThere(id) ? [] : [id]))),
  ];
  const read = await directory.read(ids.map((id) => `${id}/diff`));
  const gone = new Set(ids.filter((_, index) => read[index]?.type === 'missing'));
  return [...targets].flatMap(([name, id]) => (id !== undefined && gone.has(id) ? [`l/${name}`] : []));
}

/** Everything that is wrong with `l`, `link`, `lower` and `committed`. */
export async function problems(
  directory: StoreDirectory,
  layers: readonly LayerRecord[],
): Promise<Problem[]> {
  const links = await readLinks(directory);
  const known = new Map(layers.map((layer) => [layer.id, layer]));
  const named = linkNames(layers, links.targets);
  const chains = layers.map((layer) => chainOf(layer, named));
  const withChild = new Set(chains.flatMap((chain) => chain ?? []));
  const lost = chains.includes(undefined);
  const found: Problem[] = [];
  if (links.missing) {
    const repair = [makeDirectory('l', 0o700), sync('')];
    found.push(untidiness('WARN_OVERLAY_STORE_LINK', 'l', 'the directory `l` is missing', repair));
  }
  for (const layer of layers) {
    found.push(...contentProblems(layer));
    found.push(...linkProblems(layer, links, named.get(layer.id)));
    found.push(...lowerProblems(layer, known, named));
    found.push(...markProblems(layer, withChild.has(layer.id) || (lost ? undefined : false)));
  }
  found.push(...chainProblems(layers, (layer) => chainOf(layer, named), 'lower'));
  const useless = [
    [await danglingOf(directory, links, known), 'leads to no layer'],
    [surplusOf(links, layers), 'leads to a layer that has another, and nothing names it'],
  ] as const;
  for (const [paths, what] of useless) {
    for (const path of paths) {
      const repair = [unlink(path), sync('l')];
      found.push(untidiness('WARN_OVERLAY_STORE_LINK', path, `${path} ${what}`, repair));
    }
  }
  return found;
}

interface Links {
  readonly missing: boolean;
  readonly entries: ReadonlyMap<string, Entry>;
  /** The layer that each leads to; undefined: it is no such link. */
  readonly targets: ReadonlyMap<string, string | undefined>;
}

async function readLinks(directory: StoreDirectory): Promise<Links> {
  const [l] = await directory.read(['l']);
  if (l?.type !== 'directory') {
    return { missing: l?.type === 'missing', entries: new Map(), targets: new Map() };
  }
  const names = (await directory.names('l')).flatMap(({ text }) => (text === undefined ? [] : [text])).sort();
  const read = await directory.read(names.map((name) => `l/${name}`));
  const entries = new Map(names.map((name, index) => [name, read[index] as Entry]));
  const targets = new Map([...entries].map(([name, entry]) => [name, layerOf(entry)]));
  return { missing: false, entries, targets };
}

function layerOf(entry: Entry): string | undefined {
  if (entry.type !== 'link') return undefined;
  const id = /^\.\.\/([^/]+)\/diff$/.exec(entry.bytes.toString('latin1'))?.[1];
  return id !== undefined && isId(id) ? id : undefined;
}

/** What each layer is called in `l`: as it says itself, as a layer on top of it says, or as a link says that leads there. */
function linkNames(layers: readonly LayerRecord[], targets: Links['targets']): ReadonlyMap<string, string> {
  const own = new Map<string, string>();
  for (const { id, entries } of layers) {
    const link = fileText(entries.get('link'));
    if (link !== undefined && isLinkName(link)) own.set(id, link);
  }
  const names = new Map<string, string>();
  for (const [name, id] of targets) if (id !== undefined && isLinkName(name)) names.set(id, name);
  for (const { entries, sidecar } of layers) {
    if (sidecar === undefined || sidecar.chain.every((parent) => own.has(parent))) continue;
    const lower = lowerNames(entries.get('lower'));
    if (lower?.length !== sidecar.chain.length) continue;
    for (const [index, parent] of sidecar.chain.entries()) names.set(parent, lower[index] as string);
  }
  for (const [id, link] of own) names.set(id, link);
  return names;
}

function lowerNames(entry: Entry | undefined): string[] | undefined {
  const names = fileText(entry)
    ?.split(':')
    .map((part) => (part.startsWith('l/') ? part.slice(2) : ''));
  return names?.every(isLinkName) === true ? names : undefined;
}

function contentProblems({ id, entries }: LayerRecord): Problem[] {
  const diff = entries.get('diff');
  if (diff?.type === 'directory') return [];
  const what = diff?.type === 'missing' ? 'is missing' : 'is no directory';
  return [damage(id, `${id}/diff`, `\`diff\` ${what}: the layer's content is not there`)];
}

function linkProblems({ id, entries }: LayerRecord, links: Links, known: string | undefined): Problem[] {
  const link = entries.get('link');
  const text = fileText(link);
  if (text === undefined || !isLinkName(text)) {
    const what =
      link?.type === 'missing' ? 'is missing' : text === '' ? 'is empty' : 'holds no name of a link in `l`';
    const name = known ?? newLinkName();
    const replaceable = link?.type === 'missing' || link?.type === 'file' || link?.type === 'link';
    const repair = [replaceFile(`${id}/link`, name, 0o644), sync(id)];
    return [damage(id, `${id}/link`, `\`link\` ${what}`, replaceable ? repair : undefined)];
  }
  if (links.targets.get(text) === id) return [];
  const there = links.entries.get(text);
  const path = `l/${text}`;
  const relink = [makeLink(path, `../${id}/diff`), sync('l')];
  if (there === undefined) {
    return [untidiness('WARN_OVERLAY_STORE_LINK', path, `${path} is missing`, relink, id)];
  }
  const wrong = `${path} is not the symbolic link to ../${id}/diff`;
  return [damage(id, path, wrong, there.type === 'directory' ? undefined : [unlink(path), ...relink])];
}

function lowerProblems(
  layer: LayerRecord,
  known: ReadonlyMap<string, LayerRecord>,
  named: ReadonlyMap<string, string>,
): Problem[] {
  const { id, entries } = layer;
  const chain = chainOf(layer, named);
  const path = `${id}/lower`;
  if (chain === undefined) {
    return [
      damage(
        id,
        path,
        '`lower` is missing, empty or does not name links in `l`, and nothing else tells the parents',
      ),
    ];
  }
  if (chain.includes(id)) return []; // chainProblems() tells
  const missing = chain.filter((parent) => !known.has(parent));
  const lost = missing.map((parent) => damage(id, path, `its parent ${parent} is missing`));
  if (chain.length === 0 || lost.length > 0) return lost;
  const found: Problem[] = [];
  const wanted = chain.map((parent) => named.get(parent));
  const text = wanted.map((name) => `l/${name}`).join(':');
  if (fileText(entries.get('lower')) !== text) {
    const type = entries.get('lower')?.type;
    const mendable = !wanted.includes(undefined) && type !== 'directory' && type !== 'other';
    const repair = [replaceFile(path, text, 0o644), sync(id)];
    const what = type === 'missing' ? 'is missing' : 'does not name its parents';
    found.push(damage(id, path, `\`lower\` ${what}`, mendable ? repair : undefined));
  }
  if (entries.get('work')?.type === 'missing') {
    const repair = [makeDirectory(`${id}/work`, 0o700), sync(id)];
    found.push(damage(id, `${id}/work`, '`work` is missing', repair));
  }
  return found;
}

// The parents: as the sidecar has them, else `lower-layers`, else `lower`. Undefined: nothing tells.
function chainOf(
  { entries, sidecar }: LayerRecord,
  named: ReadonlyMap<string, string>,
): readonly string[] | undefined {
  if (sidecar !== undefined) return sidecar.chain;
  const layers = fileText(entries.get('lower-layers'))?.split(':');
  if (layers?.every(isId) === true) return layers;
  const isBase = entries.get('lower')?.type === 'missing';
  if (isBase && (entries.get('work')?.type === 'missing' || entries.get('empty')?.type === 'directory'))
    return [];
  const idOf = new Map([...named].map(([id, name]) => [name, id]));
  const chain = lowerNames(entries.get('lower'))?.map((name) => idOf.get(name));
  return chain === undefined || chain.includes(undefined) ? undefined : (chain as string[]);
}
