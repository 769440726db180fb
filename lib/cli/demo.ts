/**
 * `npm run demo`: one real story on a real directory tree of this machine, and what the kernel did in the upper.
 * @module
 */
import { mkdir, mkdtemp, readdir, readFile, rename, rm, stat, unlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { binding } from '../addon.ts';
import { listOverlays, mountOverlay, type Overlay, OverlayError } from '../index.ts';

const lower = process.argv[2] ?? '/usr/share';
const steps: { step: string; kernel: string }[] = [];

try {
  await main();
} catch (error) {
  if (!(error instanceof OverlayError)) throw error;
  console.error(`\n${error.message}`);
  process.exitCode = 1;
}

async function main(): Promise<void> {
  const scratch = await mkdtemp(join(tmpdir(), 'overlayfs-demo-'));
  const upper = join(scratch, 'upper');
  const work = join(scratch, 'work');
  for (const directory of [upper, work]) await mkdir(directory);
  try {
    await onRealTree(scratch, upper, work);
    await manyLowers(scratch);
    await detachedView();
  } finally {
    await rm(scratch, { recursive: true });
  }
  printTable();
  const left = (await listOverlays()).filter(({ owner }) => owner === 'own');
  console.log(
    `\nOverlays of this process that are still mounted: ${left.length}. Left in ${tmpdir()}: nothing.`,
  );
}

async function onRealTree(scratch: string, upper: string, work: string): Promise<void> {
  const [parent, first = '', second = ''] = await directoryWithFiles(lower);
  const options = { lower, upper, work, target: join(scratch, 'merged'), mkdirTarget: true };
  {
    await using overlay = await mountOverlay(options);
    console.log(`Mounted ${lower} under an empty upper at ${overlay.target} (by ${overlay.report.rung}).\n`);
    const inside = (...names: string[]) => overlay.path(parent, ...names);

    const text = await readFile(inside(first));
    await tell(`read ${parent}/${first}: ${text.length} bytes from the lower`, upper);

    await writeFile(inside(first), 'changed in the overlay\n', { flag: 'a' });
    await tell(`first write to ${parent}/${first}`, upper, join(parent, first));

    await unlink(inside(second));
    await tell(`delete ${parent}/${second}`, upper, join(parent, second));

    const gone = (await directoryWithFiles(lower, parent))[0];
    await rm(overlay.path(gone), { recursive: true });
    await mkdir(overlay.path(gone));
    await tell(`delete ${gone}/ and make it again`, upper, gone);

    await refusedRename(overlay, parent);
  }
  await using overlay = await mountOverlay({ ...options, redirectDir: 'on' });
  await rename(overlay.path(parent), overlay.path(`${parent}-renamed`));
  await tell(`rename ${parent}/, with redirectDir: 'on'`, upper, `${parent}-renamed`);
  await tell(`… which leaves at ${parent}`, upper, parent);
}

async function refusedRename(overlay: Overlay, name: string): Promise<void> {
  try {
    await rename(overlay.path(name), overlay.path(`${name}-renamed`));
  } catch (error) {
    note(
      `rename ${name}/, with the default redirectDir`,
      `${(error as NodeJS.ErrnoException).code}: refused, nothing changed`,
    );
  }
}

async function manyLowers(scratch: string): Promise<void> {
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
    'mount 500 lowers',
    `${(await readdir(overlay.path())).length} names in the merged directory, ${took} ms`,
  );
}

async function detachedView(): Promise<void> {
  await using view = await mountOverlay({ lower, scratch: true });
  await writeFile(view.path('note'), 'only this process sees it\n');
  const size = (await stat(view.path('note'))).size;
  note('a detached view on scratch', `wrote ${size} bytes through ${view.path('note')}; in no mount table`);
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
async function tell(step: string, upper: string, path?: string): Promise<void> {
  note(
    step,
    path === undefined
      ? `nothing: ${(await readdir(upper)).length} entries in the upper`
      : await artefact(upper, path),
  );
}

function note(step: string, kernel: string): void {
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

function printTable(): void {
  const width = Math.max(...steps.map(({ step }) => step.length));
  console.log(`${'what we did'.padEnd(width)}   what the kernel did in the upper`);
  console.log(`${'─'.repeat(width)}   ${'─'.repeat(50)}`);
  for (const { step, kernel } of steps) console.log(`${step.padEnd(width)}   ${kernel}`);
}
