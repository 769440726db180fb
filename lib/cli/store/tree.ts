/**
 * `overlayfs store tree`
 * @module
 */
import { layerNotFound } from '../../store/errors.ts';
import type { Layer } from '../../store/types.ts';
import type { Command } from '../command.ts';
import { type Paint, printable } from '../output.ts';
import { storeFlags, withStore } from './open.ts';

interface Node {
  readonly layer: Layer;
  readonly children: readonly Node[];
}

/** Shows which layer lies on which. */
export const command: Command = {
  positionals: ['[ID]'],
  flags: storeFlags,
  examples: ['overlayfs store tree --root /srv/store', 'overlayfs store tree --root /srv/store base'],
  what: () => 'cannot show the layers',
  run: (args, paint) =>
    withStore(args, 'read', async (store) => {
      const layers = await store.list();
      const [id] = args.positionals;
      const nodes =
        id === undefined ? forest(layers) : layers.flatMap(treeOf(layers, (one) => one.id === id));
      if (id !== undefined && nodes.length === 0) throw layerNotFound(id, store.root);
      return {
        text: nodes.flatMap((node) => lines(node, layers, paint)).join('\n'),
        json: nodes.map(plain),
      };
    }),
};

// A damaged store has layers whose parent is missing, and may have some that lie below themselves: each is shown once.
function forest(layers: readonly Layer[]): Node[] {
  const shown = new Set<string>();
  const from = (wanted: (layer: Layer) => boolean): Node[] =>
    layers.flatMap(treeOf(layers, (one) => wanted(one) && !shown.has(one.id), shown));
  const ids = new Set(layers.map(({ id }) => id));
  return [...from(({ parent }) => parent === undefined || !ids.has(parent)), ...from(() => true)];
}

const treeOf =
  (layers: readonly Layer[], wanted: (layer: Layer) => boolean, shown = new Set<string>()) =>
  (layer: Layer): Node[] => {
    if (!wanted(layer) || shown.has(layer.id)) return [];
    shown.add(layer.id);
    return [{ layer, children: layers.flatMap(treeOf(layers, ({ parent }) => parent === layer.id, shown)) }];
  };

function lines({ layer, children }: Node, layers: readonly Layer[], paint: Paint): string[] {
  const lost = layer.parent !== undefined && !layers.some(({ id }) => id === layer.parent);
  const note = lost ? `, its parent ${layer.parent} is missing` : '';
  return [
    `${printable(layer.id)}  ${paint('dim', `${layer.kind}${layer.readonly ? '' : ', writable'}${note}`)}`,
    ...children.flatMap((child, index) => {
      const last = index === children.length - 1;
      const [first = '', ...rest] = lines(child, layers, paint);
      return [`${last ? '└─' : '├─'} ${first}`, ...rest.map((line) => `${last ? '  ' : '│ '} ${line}`)];
    }),
  ];
}

const plain = ({ layer, children }: Node): unknown => ({ ...layer, children: children.map(plain) });
