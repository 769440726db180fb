/**
 * What can be wrong with the layers of a store for the legacy overlay driver, and what mends it.
 * @module
 */
import { chainProblems } from './chain-check.ts';
import type { StoreDirectory } from './directory.ts';
import type { LayerRecord } from './driver.ts';
import { fileText } from './driver.ts';
import { isId } from './ids.ts';
import { markProblems } from './mark-check.ts';
import { damage, type Problem, untidiness } from './problem.ts';
import { encodeSidecar, hasDamagedSidecar, sidecarName } from './sidecar.ts';
import { makeDirectory, removeTree, replaceFile, type Step, sync, unlink } from './steps.ts';

/** Everything that is wrong with `root`, `upper`, `lower-id` and `committed`. */
export async function problems(
  _directory: StoreDirectory,
  layers: readonly LayerRecord[],
): Promise<Problem[]> {
  const known = new Map(layers.map((layer) => [layer.id, layer]));
  const withChild = new Set(layers.flatMap(({ sidecar }) => sidecar?.chain ?? []));
  const lost = layers.some(hasDamagedSidecar);
  const found = layers.flatMap((layer) => [
    ...(has(layer, 'root') ? treeProblems(layer) : upperProblems(layer, known)),
    ...parentProblems(layer, known),
    ...markProblems(layer, withChild.has(layer.id) || (lost ? undefined : false)),
  ]);
  // A tree that another program has made says nothing of its parents.
  const told = ({ sidecar }: LayerRecord) => sidecar?.chain;
  return [...found, ...chainProblems(layers, told, '')];
}

const has = ({ entries }: LayerRecord, name: string): boolean => entries.get(name)?.type === 'directory';
const isThere = ({ entries }: LayerRecord, name: string): boolean => entries.get(name)?.type !== 'missing';

// It was an upper until it was filled.
function treeProblems(layer: LayerRecord): Problem[] {
  const { id, sidecar } = layer;
  const unnoted =
    sidecar?.state === 'empty' && has(layer, 'diff')
      ? [
          leftover(
            `${id}/${sidecarName}`,
            'it is a whole tree, and that is not noted',
            [
              replaceFile(`${id}/${sidecarName}`, encodeSidecar({ ...sidecar, state: 'filled' }), 0o600),
              sync(id),
            ],
            id,
          ),
        ]
      : [];
  const left = ['upper', 'work', 'lower-id']
    .filter((name) => isThere(layer, name))
    .map((name) => {
      const path = `${id}/${name}`;
      const remove = name === 'lower-id' ? unlink(path) : removeTree(path);
      return leftover(path, 'it is a whole tree, and needs this no more', [remove, sync(id)], id);
    });
  return [...unnoted, ...left];
}

function upperProblems(layer: LayerRecord, known: ReadonlyMap<string, LayerRecord>): Problem[] {
  const { id, kind, sidecar } = layer;
  const found: Problem[] = [];
  if (isThere(layer, 'root')) found.push(damage(id, `${id}/root`, '`root` is no directory'));
  if (!has(layer, 'upper')) {
    found.push(
      damage(id, `${id}/upper`, "`upper` is missing or no directory: the layer's content is not there"),
    );
  }
  const lower = fileText(layer.entries.get('lower-id')) ?? '';
  const tree = known.get(lower);
  if (tree === undefined || !has(tree, 'root')) {
    const path = `${id}/lower-id`;
    const what = isId(lower) ? `names ${lower}, which is no whole tree` : 'does not name a layer';
    const nearest = sidecar?.chain.find((one) => {
      const parent = known.get(one);
      return parent !== undefined && has(parent, 'root');
    });
    const repair = nearest === undefined ? undefined : [replaceFile(path, nearest, 0o600), sync(id)];
    found.push(damage(id, path, `\`lower-id\` ${what}`, repair));
  }
  if (!isThere(layer, 'work') && kind !== 'image') {
    const repair = [makeDirectory(`${id}/work`, 0o700), sync(id)];
    found.push(damage(id, `${id}/work`, '`work` is missing', repair));
  }
  if (isThere(layer, 'diff') && sidecar !== undefined) {
    const path = `${id}/diff`;
    found.push(leftover(path, 'its filling was not finished', [removeTree(path), sync(id)], id));
  }
  return found;
}

function parentProblems({ id, sidecar }: LayerRecord, known: ReadonlyMap<string, LayerRecord>): Problem[] {
  return (sidecar?.chain ?? [])
    .filter((parent) => !known.has(parent))
    .map((parent) => damage(id, id, `its parent ${parent} is missing`));
}

const leftover = (path: string, what: string, repair: readonly Step[], id: string): Problem =>
  untidiness('WARN_OVERLAY_STORE_LEFTOVER', path, what, repair, id);
