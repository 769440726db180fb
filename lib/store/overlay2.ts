/**
 * Docker's overlay2: every layer is a directory of its own, stacked by the kernel. `l` holds short symbolic links to the
 * layers, which each layer's `lower` joins to the whole of what lies below it. Reads what containers/storage and BuildKit
 * write in the same layout.
 * @module
 */
import { markSteps } from './children.ts';
import type { StoreDirectory } from './directory.ts';
import { type Driver, fileText, type LayerDraft, type LayerPlan, type LayerRecord } from './driver.ts';
import type { Entry } from './entry.ts';
import { layerDamaged } from './errors.ts';
import { isId, isLinkName, newLinkName } from './ids.ts';
import { dangling, problems } from './overlay2-check.ts';
import { decodeSidecar, sidecarName } from './sidecar.ts';
import { exchange, expectBytes, makeDirectory, makeLink, sync, unlink, writeFile } from './steps.ts';

export const overlay2: Driver = {
  name: 'overlay2',
  directories: [['l', 0o700]],
  names: ['diff', 'link', 'lower', 'lower-layers', 'committed', 'empty', 'work', sidecarName],
  isLayer: (entries) => ['diff', 'link'].some((name) => entries.get(name)?.type !== 'missing'),
  record,
  chain,
  parents,
  create,
  withdraw: ({ entries }) => {
    const link = fileText(entries.get('link'));
    return link !== undefined && isLinkName(link) ? [unlink(`l/${link}`), sync('l')] : [];
  },
  content: () => 'diff',
  mounted: () => 'diff',
  parts: ({ id, readonly }, below) => {
    const lower = below.map((parent) => `${parent}/diff`);
    return readonly
      ? { lower: [`${id}/diff`, ...lower] }
      : { lower, upper: `${id}/diff`, work: `${id}/work` };
  },
  difference: async (_, { id, readonly }, below) => ({
    lower: below.map((parent) => `${parent}/diff`),
    upper: `${id}/diff`,
    ...(readonly ? {} : { work: `${id}/work` }),
  }),
  fill: async (_directory, _layer, at, into) => ({
    place: [exchange(`${at}/content`, `${into}/diff`)],
    tidy: [],
  }),
  isStore: async (_, names) => names.includes('l'),
  problems,
  dangling,
};

function record(id: string, entries: ReadonlyMap<string, Entry>): LayerRecord {
  const sidecar = decodeSidecar(entries.get(sidecarName), id);
  const committed = entries.get('committed')?.type === 'file';
  const base = isBase(entries);
  const kind = sidecar?.kind ?? (committed || base ? 'image' : 'unknown');
  return { id, entries, sidecar, kind, readonly: committed || base || kind === 'image' };
}

// Nothing lies below it, so nothing can be written over it. containers/storage makes one a work directory, and an empty
// directory to lie on.
function isBase(entries: ReadonlyMap<string, Entry>): boolean {
  const has = (name: string) => entries.get(name)?.type !== 'missing';
  return !has('lower') && !has('lower-layers') && (!has('work') || has('empty'));
}

async function chain(directory: StoreDirectory, layer: LayerRecord): Promise<readonly string[]> {
  const { id, entries, sidecar } = layer;
  const named = fileText(entries.get('lower-layers'))?.split(':');
  if (named?.every(isId) === true) return named;
  const links = linksBelow(directory, layer);
  // What Docker reads is `lower`: the sidecar spares looking each link up where it says the same.
  if (sidecar !== undefined && sidecar.chain.length === links.length) return sidecar.chain;
  const targets = await directory.read(links.map((link) => `l/${link}`));
  return targets.map((entry, index) => linkedLayer(directory, id, links[index] as string, entry));
}

// Of a damaged layer what can be said.
async function parents(
  _directory: StoreDirectory,
  layers: readonly LayerRecord[],
): Promise<ReadonlyMap<string, string>> {
  let known: ReadonlyMap<string | undefined, string> | undefined;
  const idOf = (link: string) => {
    known ??= new Map(layers.map(({ id, entries }) => [fileText(entries.get('link')), id]));
    return known.get(link);
  };
  const found = new Map<string, string>();
  for (const { id, entries, sidecar } of layers) {
    const parent = sidecar?.chain[0] ?? namedParent(entries, idOf);
    if (parent !== undefined) found.set(id, parent);
  }
  return found;
}

function namedParent(
  entries: LayerRecord['entries'],
  idOf: (link: string) => string | undefined,
): string | undefined {
  const named = fileText(entries.get('lower-layers'))?.split(':')[0];
  if (named !== undefined) return named;
  const link = fileText(entries.get('lower'))?.match(/^l\/([A-Z2-7]{26})(?::|$)/)?.[1];
  return link === undefined ? undefined : idOf(link);
}

/** The short names in `lower`, topmost first. */
export function linksBelow(directory: StoreDirectory, { id, entries }: LayerRecord): readonly string[] {
  if (isBase(entries)) return [];
  const lower = entries.get('lower');
  if (lower?.type === 'missing') throw layerDamaged(id, directory.shown, '`lower` is missing');
  const text = fileText(lower);
  if (text === undefined) throw layerDamaged(id, directory.shown, '`lower` is no file that can be read');
  const links = text.split(':').map((part) => (part.startsWith('l/') ? part.slice(2) : ''));
  if (links.every(isLinkName)) return links;
  throw layerDamaged(
    id,
    directory.shown,
    text === '' ? '`lower` is empty' : '`lower` does not name links in `l`',
  );
}

function linkedLayer(directory: StoreDirectory, id: string, link: string, entry: Entry): string {
  const target = entry.type === 'link' ? entry.bytes.toString('latin1') : '';
  const parent = /^\.\.\/([^/]+)\/diff$/.exec(target)?.[1];
  if (parent !== undefined && isId(parent)) return parent;
  const what =
    entry.type === 'missing' ? 'is missing' : `is not the symbolic link that it should be, to ../ID/diff`;
  throw layerDamaged(id, directory.shown, `l/${link} ${what}`);
}

async function create(directory: StoreDirectory, draft: LayerDraft): Promise<LayerPlan> {
  const { id, parent } = draft;
  const link = newLinkName();
  const below = parent === undefined ? [] : [parentLink(directory, parent), ...linksBelow(directory, parent)];
  return {
    prepare: (at) => [
      makeDirectory(`${at}/diff`, 0o755),
      writeFile(`${at}/link`, link, 0o644),
      ...(parent === undefined
        ? []
        : [
            makeDirectory(`${at}/work`, 0o700),
            writeFile(`${at}/lower`, below.map((name) => `l/${name}`).join(':'), 0o644),
          ]),
    ],
    expect: parent === undefined ? [] : [expectBytes(`${parent.id}/link`, Buffer.from(below[0] ?? ''))],
    publish: [
      ...(parent === undefined ? [] : markSteps(parent)),
      makeLink(`l/${link}`, `../${id}/diff`),
      sync('l'),
    ],
    withdraw: [unlink(`l/${link}`)],
  };
}

function parentLink(directory: StoreDirectory, { id, entries }: LayerRecord): string {
  const link = fileText(entries.get('link'));
  if (link !== undefined && isLinkName(link)) return link;
  throw layerDamaged(
    id,
    directory.shown,
    link === '' ? '`link` is empty' : '`link` holds no name of a link in `l`',
  );
}
