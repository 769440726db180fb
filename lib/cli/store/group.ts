/**
 * `overlayfs store …`: one command for each verb of a store.
 * @module
 */
import type { Group } from '../dispatch.ts';

export const group: Group = {
  about: "Layers in the layout of Docker's storage drivers.",
  commands: {
    init: { summary: 'Make a directory a store', load: () => import('./init.ts') },
    ls: { summary: 'List the layers', load: () => import('./ls.ts') },
    tree: { summary: 'Show which layer lies on which', load: () => import('./tree.ts') },
    create: { summary: 'Make a layer, empty or from a directory', load: () => import('./create.ts') },
    mount: {
      summary: 'Mount a layer on those below it; it stays when this command ends',
      load: () => import('./mount.ts'),
    },
    unmount: { summary: 'Unmount a layer', load: () => import('./unmount.ts') },
    commit: {
      summary: 'Make an image layer of what a container layer holds',
      load: () => import('./commit.ts'),
    },
    diff: { summary: 'Tell what a layer changes over those below it', load: () => import('./diff.ts') },
    usage: { summary: 'Tell how much layers take', load: () => import('./usage.ts') },
    check: { summary: 'Look for what is wrong in the store, and mend it', load: () => import('./check.ts') },
    gc: { summary: 'Remove what killed processes left unfinished', load: () => import('./gc.ts') },
    rm: { summary: 'Remove layers', load: () => import('./rm.ts') },
  },
  examples: [
    'overlayfs store init --root /srv/store',
    'overlayfs store create --root /srv/store --kind image --from /srv/rootfs base',
    'overlayfs store create --root /srv/store --kind container --parent base box',
    'overlayfs store mount --root /srv/store box',
  ],
};
