#!/usr/bin/env node
/**
 * The `overlayfs` command; under the name `mount.overlay` or `umount.overlay`, a helper of mount(8) or umount(8). Each
 * subcommand is loaded when it is asked for.
 * @module
 */
import { readFileSync } from 'node:fs';
import { basename } from 'node:path';
import { commandLine } from './arguments.ts';
import { dispatch, type Group } from './dispatch.ts';

const commands: Group['commands'] = {
  mount: {
    summary: 'Mount an overlay, which stays when this command ends',
    load: () => import('./mount.ts'),
  },
  unmount: { summary: 'Unmount the overlay at a target', load: () => import('./unmount.ts') },
  ls: { summary: 'List the overlays of this mount namespace', load: () => import('./ls.ts') },
  doctor: { summary: 'Tell what is wrong with a mount before it is made', load: () => import('./doctor.ts') },
  support: {
    summary: 'Tell what this kernel and these directories allow',
    load: () => import('./support.ts'),
  },
  holders: { summary: 'Tell who keeps a mount busy', load: () => import('./holders.ts') },
  'copy-up': {
    summary: 'Copy files up ahead of time, through a mounted overlay',
    load: () => import('./copy-up.ts'),
  },
  which: { summary: 'Tell which layer a path comes from, and why', load: () => import('./which.ts') },
  diff: { summary: 'Tell what an overlay changes over its lowers', load: () => import('./diff.ts') },
  apply: {
    summary: 'Carry the changes of an overlay over into a plain directory',
    load: () => import('./apply.ts'),
  },
  store: {
    summary: "Keep layers in Docker's own layout: twelve commands",
    load: () => import('./store/group.ts'),
  },
  sweep: { summary: 'Unmount what killed processes left mounted', load: () => import('./sweep.ts') },
  demo: {
    summary: 'Tell one real story on a directory tree, and leave nothing',
    load: () => import('./demo.ts'),
  },
};

const group: Group = {
  about: 'Kernel overlay mounts.',
  commands,
  examples: [
    'overlayfs mount -l /srv/app -l /srv/base -u /srv/box/upper -w /srv/box/work /srv/box/merged',
    'overlayfs ls',
    'overlayfs unmount /srv/box/merged',
  ],
};

const helpers = ['mount.overlay', 'umount.overlay'] as const;
type Helper = (typeof helpers)[number];
const isHelper = (name: string | undefined): name is Helper => helpers.some((helper) => helper === name);

// `overlayfs ls | head -1`: nobody reads on.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') return;
  console.error(`overlayfs: cannot print: ${error.message}`);
  process.exit(1);
});
process.exitCode = await main(basename(process.argv[1] ?? ''), commandLine());

async function main(program: string, args: readonly string[]): Promise<number> {
  const [name = '', ...rest] = isHelper(program) ? [program, ...args] : args;
  if (isHelper(name)) return (await import('./mount-helper.ts')).runHelper(name, rest);
  if (name === '--version') {
    const manifest = readFileSync(new URL('../../package.json', import.meta.url), 'utf8');
    console.log((JSON.parse(manifest) as { version: string }).version);
    return 0;
  }
  return dispatch('overlayfs', group, args);
}
