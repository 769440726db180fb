/**
 * `overlayfs store create`
 * @module
 */
import type { CreateLayerOptions, Layer, LayerStore } from '../../store/types.ts';
import { pathArgument } from '../arguments.ts';
import type { Command } from '../command.ts';
import { printable } from '../output.ts';
import { withProgress } from '../progress.ts';
import { withStore, writingFlags } from './open.ts';

/** Makes a layer, and fills it. */
export const command: Command = {
  positionals: ['ID'],
  flags: {
    ...writingFlags,
    kind: { type: 'string', value: 'KIND', help: 'image, which is only read, or container' },
    parent: { type: 'string', value: 'ID', help: 'the layer below' },
    from: { type: 'string', value: 'DIR', help: 'fill it with a copy, whiteouts and opaque marks too' },
  },
  examples: [
    'overlayfs store create --root /srv/store --kind image --from /srv/rootfs base',
    'overlayfs store create --root /srv/store --kind container --parent base box',
  ],
  what: ({ positionals: [id = ''] }) => `cannot create ${printable(id)}`,
  run: (args) =>
    withStore(args, 'write', async (store) => {
      const {
        positionals: [id = ''],
      } = args;
      const [parent, from] = [args.text('parent'), args.text('from')];
      const options = { kind: args.text('kind') as CreateLayerOptions['kind'] };
      const made = await store.create(id, { ...options, ...(parent === undefined ? {} : { parent }) });
      const layer = from === undefined ? made : await fill(store, made, from);
      return { text: `${id} created${from === undefined ? '' : ' and filled'}`, json: layer };
    }),
};

async function fill(store: LayerStore, { id }: Layer, from: string): Promise<Layer> {
  try {
    return await withProgress(`copying ${printable(from)}`, (onProgress) =>
      store.apply(id, pathArgument(from), { onProgress }),
    );
  } catch (error) {
    await store.remove(id).catch((left) => {
      throw new AggregateError([error, left], `${(error as Error).message}; and ${id} could not be removed`);
    });
    throw error;
  }
}
