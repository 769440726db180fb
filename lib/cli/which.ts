/**
 * `overlayfs which`
 * @module
 */
import { realpath } from 'node:fs/promises';
import { basename, dirname } from 'node:path';
import { overlayError } from '../errors.ts';
import { listOverlays, type MountedOverlay } from '../inspect/mount-table.ts';
import type { LayerPlace } from '../layer/place.ts';
import { type LayerStep, type WhichLayer, whichLayer } from '../layer/which-layer.ts';
import { absolutePath, showPath } from '../paths.ts';
import type { LayerStack } from '../types.ts';
import { type Arguments, pathArgument } from './arguments.ts';
import type { Command } from './command.ts';
import { type Paint, printable } from './output.ts';
import { stackFlags, stackGiven } from './stack-flags.ts';

/** Tells which layer serves a path, the way there, and what is hidden below. */
export const command: Command = {
  positionals: ['PATH'],
  flags: stackFlags,
  examples: [
    'overlayfs which /srv/box/merged/etc/hosts',
    'overlayfs which -l /srv/app -l /srv/base -u /srv/box/upper etc/hosts',
  ],
  exitOne: 'a mount of the layers does not show the path',
  what: ({ positionals: [path = ''] }) => `cannot tell where ${printable(path)} comes from`,
  run: async (args, paint) => {
    const [source, path] = await asked(args);
    const told = await whichLayer(source, path);
    return { text: lines(told, paint).join('\n'), json: told, failed: !told.exists };
  },
};

// With layers, a path inside their overlay; without, a path through one that is mounted.
async function asked(args: Arguments): Promise<[LayerStack | MountedOverlay, Buffer]> {
  const path = pathArgument(args.positionals[0] ?? '');
  const stack = stackGiven(args);
  return stack === undefined ? throughMount(path) : [stack, path];
}

async function throughMount(given: Buffer): Promise<[MountedOverlay, Buffer]> {
  const path = (await withoutLinks(absolutePath(given, 'PATH'))).toString('latin1');
  const inside = ({ targetBytes }: MountedOverlay) => {
    const target = targetBytes.toString('latin1');
    return path === target || path.startsWith(target === '/' ? '/' : `${target}/`);
  };
  // Of two in each other the inner one, of two at one place the one on top.
  const [mount] = (await listOverlays())
    .filter(inside)
    .reverse()
    .sort((a, b) => b.targetBytes.length - a.targetBytes.length);
  if (mount !== undefined) return [mount, Buffer.from(path.slice(mount.targetBytes.length) || '.', 'latin1')];
  throw overlayError(
    'ERR_OVERLAY_NOT_AN_OVERLAY',
    `${showPath(given)} lies in no overlay that is mounted here`,
    'Give a path through a mounted overlay, or name layers with --lower',
    { path: showPath(given) },
  );
}

// Symbolic links on the way are followed as in any path; the file itself is meant, link or not.
async function withoutLinks(path: Buffer): Promise<Buffer> {
  const text = path.toString('latin1');
  const parent = Buffer.from(dirname(text), 'latin1');
  const name = basename(text);
  const real = await realpath(parent, 'buffer').catch(() => undefined);
  if (real === undefined || name === '' || name === '..') return path;
  return Buffer.concat([real, Buffer.from(real.at(-1) === 0x2f ? name : `/${name}`, 'latin1')]);
}

function lines(told: WhichLayer, paint: Paint): string[] {
  const { path, exists, error, type, place, data, merged, way, hidden, findings } = told;
  const row = (label: string, text: string) => `${paint('bold', label.padEnd(9))} ${text}`;
  const moved = data !== undefined && data.realPath !== place?.realPath;
  return [
    exists ? `${printable(path)} is a ${type}` : `${printable(path)}: ${error}`,
    ...(merged.length > 1 ? merged.map((one) => row('merged', shown(one))) : []),
    ...(place !== undefined && merged.length <= 1 ? [row('from', shown(place))] : []),
    ...(moved ? [row('data', shown(data))] : []),
    ...way.map((step) => row(step.kind === 'xattr-whiteout' ? 'whiteout' : step.kind, shownStep(step))),
    ...hidden.map(({ reason, by, ...one }) => row('hidden', `${shown(one)} (${reason}: ${shown(by)})`)),
    ...findings.map(({ code, severity, detail, fix }) =>
      [paint(severity === 'error' ? 'red' : 'yellow', code), `${printable(detail)}. ${fix}`].join(' '),
    ),
  ];
}

function shown({ layer, index, path, realPath }: LayerPlace): string {
  const name = layer === 'lower' || layer === 'dataOnlyLower' ? `${layer}[${index}]` : layer;
  return `${name} ${printable(realPath ?? path)}`;
}

function shownStep({ kind, redirect, ...place }: LayerStep): string {
  return kind === 'redirect' ? `${shown(place)} → ${printable(redirect ?? '')}` : shown(place);
}
