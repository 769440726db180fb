/**
 * `overlayfs demo` and `npm run demo`: one real story on a real directory tree of this machine, and what the kernel did in
 * the upper.
 * @module
 */
import { mkdir, mkdtemp, readdir, readFile, rename, rm, stat, unlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { binding } from '../addon.ts';
import { listOverlays } from '../inspect/mount-table.ts';
import { mountOverlay } from '../overlay/mount.ts';
import type { Overlay } from '../overlay/overlay.ts';
import type { Command } from './command.ts';

/** Tells the story on a directory tree. */
export const command: Command = {
  positionals: ['[TREE]'],
  flags: {},
  examples: ['overlayfs demo', 'overlayfs demo /usr/lib'],
  what: ({ positionals: [tree = usualTree] }) => `cannot tell the story on ${tree}`,
  run: async ({ positionals: [tree = usualTree], flag }) => {
    const story: Story = { lower: tree, steps: [], print: flag('json') ? () => {} : console.log };
    const left = await demo(story);
    return { text: '', json: { tree, steps: story.steps, left } };
  },
};

const usualTree = '/usr/share';

interface Story {
  readonly lower: string;
  readonly steps: { step: string; kernel: string }[];
  readonly print: (text: string) => void;
}

/** Tells the story; resolves with how many overlays of this process are still mounted. */
async function demo(story: Story): Promise<number> {
  const scratch = await mkdtemp(join(tmpdir(), 'overlayfs-demo-'));
  const upper = join(scratch, 'upper');
  const work = join(scratch, 'work');
  for (const directory of [upper, work]) await mkdir(directory);
  try {
    await onRealTree(story, scratch, upper, work);
    await manyLowers(story, scratch);
    await detachedView(story);
  } finally {
    await rm(scratch, { recursive: true });
  }
  printTable(story);
  const left = (await listOverlays()).filter(({ owner }) => owner === 'own');
  story.print(
    `\nOverlays of this process that are still mounted: ${left.length}. Left in ${tmpdir()}: nothing.`,
  );
  return left.length;
}

async function onRealTree(story: Story, scratch: string, upper: string, work: string): Promise<void> {
  const { lower } = story;
  const [parent, first = '', second = ''] = await directoryWithFiles(lower);
  const options = { lower, upper, work, target: join(scratch, 'merged'), mkdirTarget: true };
  {
    await using overlay = await mountOverlay(options);
    story.print(`Mounted ${lower} under an empty upper at ${overlay.target} (by ${overlay.report.rung}).\n`);
    const inside = (...names: string[]) => overlay.path(parent, ...names);

    const text = await readFile(inside(first));
    await tell(story, `read ${parent}/${first}: ${text.length} bytes from the lower`, upper);

    await writeFile(inside(first), 'changed in the overlay\n', { flag: 'a' });
    await tell(story, `first write to ${parent}/${first}`, upper, join(parent, first));

    await unlink(inside(second));
    await tell(story, `delete ${parent}/${second}`, upper, join(parent, second));

    const gone = (await directoryWithFiles(lower, parent))[0];
    await rm(overlay.path(gone), { recursive: true });
    await mkdir(overlay.path(gone));
    await tell(story, `delete ${gone}/ and make it again`, upper, gone);

    await refusedRename(story, overlay, parent);
  }
  await using overlay = await mountOverlay({ ...options, redirectDir: 'on' });
  await rename(overlay.path(parent), overlay.path(`${parent}-renamed`));
  await tell(story, `rename ${parent}/, with redirectDir: 'on'`, upper, `${parent}-renamed`);
  await tell(story, `… which leaves at ${parent}`, upper, parent);
}

async function refusedRename(story: Story, overlay: Overlay, name: string): Promise<void> {
  try {
    await rename(overlay.path(name), overlay.path(`${name}-renamed`));
  } catch (error) {
    note(
      story,
      `rename ${name}/, with the default redirectDir`,
      `${(error as NodeJS.ErrnoException).code}: refused, nothing changed`,
    );
  }
}

async function manyLowers(story: Story, scratch: string): Promise<void> {
  const layers = Array.from({ length: 500 }, (_, i) => join(scratch, `layer-${i}`));
  for (const [i, layer] of layers.entries()) {
    await mkdir(layer);
    await writeFile(join(layer, `file-${i}`), '');
  }
  const started = performance.now();
  await using overlay = await mountOverlay({
    lower: layers,
    target: join(scratch, 'merged'),
    mkdirTarget: true,
  });
  const took = (performance.now() - started).toFixed(1);
  note(
    story,
    'mount 500 lowers',
    `${(await readdir(overlay.path())).length} names in the merged directory, ${took} ms`,
  );
}

async function detachedView(story: Story): Promise<void> {
  await using view = await mountOverlay({ lower: story.lower, scratch: true });
  await writeFile(view.path('note'), 'only this process sees it\n');
  const size = (await stat(view.path('note'))).size;
  note(
    story,
    'a detached view on scratch',
    `wrote ${size} bytes through ${view.path('note')}; in no mount table`,
  );
}

/** The first directory at `tree` (but `except`) with at least two regular files, and their names. */
async function directoryWithFiles(tree: string, except?: string): Promise<[string, ...string[]]> {
  for (const entry of await readdir(tree, { withFileTypes: true })) {
    if (!entry.isDirectory() || entry.name === except) continue;
    const files = (await readdir(join(tree, entry.name), { withFileTypes: true })).filter((file) =>
      file.isFile(),
    );
    if (files.length >= 2) return [entry.name, ...files.map((file) => file.name)];
  }
  throw new Error(`${tree} has no two directories with two files each; name another tree as the argument`);
}

/** Notes what stands in the upper after a step. */
async function tell(story: Story, step: string, upper: string, path?: string): Promise<void> {
  note(
    story,
    step,
    path === undefined
      ? `nothing: ${(await readdir(upper)).length} entries in the upper`
      : await artefact(upper, path),
  );
}

function note({ steps }: Story, step: string, kernel: string): void {
  steps.push({ step, kernel });
}

async function artefact(upper: string, path: string): Promise<string> {
  const file = join(upper, path);
  const found = await stat(file);
  const attributes = (await binding().readXattrs(Buffer.from(file)))
    .map(([name, value]) => [name.toString(), value.toString('latin1')] as const)
    .filter(([name]) => /^trusted\.overlay\.(opaque|redirect|metacopy)$/.test(name))
    .map(([name, value]) => `, ${name}=${value}`);
  if (found.isCharacterDevice()) return `a whiteout: character device 0:${found.rdev} at ${path}`;
  const kind = found.isDirectory()
    ? `directory, ${(await readdir(file)).length} entries`
    : `file of ${found.size} bytes, copied up`;
  return `${path}: ${kind}${attributes.join('')}`;
}

function printTable({ steps, print }: Story): void {
  const width = Math.max(...steps.map(({ step }) => step.length));
  print(`${'what we did'.padEnd(width)}   what the kernel did in the upper`);
  print(`${'─'.repeat(width)}   ${'─'.repeat(50)}`);
  for (const { step, kernel } of steps) print(`${step.padEnd(width)}   ${kernel}`);
}
