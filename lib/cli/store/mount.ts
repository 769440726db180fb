/**
 * `overlayfs store mount`
 * @module
 */
import { pathArgument } from '../arguments.ts';
import type { Command } from '../command.ts';
import { mounted } from '../mounted.ts';
import { printable } from '../output.ts';
import { withStore, writingFlags } from './open.ts';

const { durability: _, ...flags } = writingFlags;

/** Mounts a layer; the mount stays when the command ends. */
export const command: Command = {
  positionals: ['ID'],
  flags: {
    ...flags,
    readonly: { type: 'boolean', help: 'of a container layer: without its upper being written to' },
    target: { type: 'string', value: 'DIR', help: "where, in place of the layer's own `merged`" },
  },
  examples: [
    'overlayfs store mount --root /srv/store box',
    'overlayfs store mount --root /srv/store --target /mnt base',
  ],
  what: ({ positionals: [id = ''] }) => `cannot mount ${printable(id)}`,
  run: (args, paint) =>
    withStore(args, 'write', async (store) => {
      const {
        positionals: [id = ''],
      } = args;
      const [readonly, target] = [args.flag('readonly'), args.text('target')];
      const overlay = await store.mount(id, {
        ...(readonly === undefined ? {} : { readonly }),
        ...(target === undefined ? {} : { target: pathArgument(target) }),
      });
      const { text, json } = mounted(overlay, paint);
      return { text, json: { id, ...json } };
    }),
};
