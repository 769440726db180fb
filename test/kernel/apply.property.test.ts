// For random stacks: changes applied to a copy of what the lowers show give what the overlay shows.
import { execFileSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { applyChanges, changes, type LayerStack, mountOverlay } from '../../lib/index.ts';
import {
  type Configuration,
  configurations,
  type MadeLayers,
  type Operation,
  operate,
  rounds,
  seed,
  withLowers,
} from '../support/operations.ts';
import { describeOn, type FileSystem, type Scratch } from '../support/scratch.ts';
import { type Seen, type View, view } from '../support/view.ts';
import { changeSet, compareViews } from '../support/written-changes.ts';

const runs = Number(process.env.OVERLAYFS_TEST_RUNS ?? 2);
const on: readonly FileSystem[] = ['tmpfs', 'ext4', 'xfs'];

describeOn(on, 'applyChanges makes the lowers look as the overlay', (scratch) => {
  it.each(configurations)('$name', async (configuration) => {
    let count = 0;
    const property = fc.asyncProperty(rounds(), async (sequences) => {
      const name = `${count++}`;
      const copy = scratch.path(`copy-${name}`);
      await withLowers(scratch.path(name), configuration, sequences.slice(0, -1), (layers) =>
        agrees(scratch, layers, configuration, sequences.at(-1) ?? [], copy),
      ).finally(() => execFileSync('rm', ['-rf', '--one-file-system', copy]));
    });
    await fc.assert(property, { numRuns: runs, seed, endOnFailure: true });
  });
});

async function agrees(
  scratch: Scratch,
  { target, ...layers }: MadeLayers,
  { written }: Configuration,
  sequence: readonly Operation[],
  copy: string,
): Promise<void> {
  const { upper: _, work: __, ...lowers } = layers;
  const before = await seen({ ...lowers, ...written }, target, (path) => {
    mkdirSync(copy);
    for (const name of ['naive', 'renames', 'no renames'])
      execFileSync('cp', ['-a', path, `${copy}/${name}`]);
  });
  {
    await using _ = await mountOverlay({ ...written, ...layers, target });
    await operate(target, sequence);
  }
  const after = await seen({ ...layers, ...written }, target);
  expect(shown(await view(`${copy}/naive`))).toEqual(before);
  if (Object.values(after).some(({ error, unlisted }) => error !== undefined || unlisted !== undefined))
    return;

  const stack = { ...layers, ...stackOptions(written) };
  const naive = await changeSet(stack, compareViews(before, after));
  const { applied, skipped } = await applyChanges(naive, `${copy}/naive`);
  expect({ applied: applied.length, skipped }).toEqual({ applied: naive.length, skipped: [] });
  expect(shown(await view(`${copy}/naive`))).toEqual(after);

  for (const name of ['renames', 'no renames']) {
    const to = `${copy}/${name}`;
    await using stream = changes(stack, { compare: 'content', dirTimes: true, renames: name === 'renames' });
    await applyChanges(stream, to);
    expect(shown(await view(to))).toEqual(after);
  }
  expect(scratch.mounts().filter((point) => point.startsWith(copy))).toEqual([]);
}

function stackOptions({
  index,
  metacopy,
  userxattr,
  redirectDir,
}: Configuration['written']): Partial<LayerStack> {
  return JSON.parse(JSON.stringify({ index, metacopy, userxattr, redirectDir })) as Partial<LayerStack>;
}

async function seen(
  options: Parameters<typeof mountOverlay>[0],
  target: string,
  also: (path: string) => void = () => {},
): Promise<View> {
  await using _ = await mountOverlay({ allowSingleLower: true, ...options, target });
  also(target);
  return shown(await view(target));
}

// What overlayfs keeps for itself does not show, nor do hard links that are not in the view.
function shown(found: View): View {
  const sizes = new Map<string | null, number>();
  for (const { group } of Object.values(found)) sizes.set(group, (sizes.get(group) ?? 0) + 1);
  const plain = ({ xattrs, group, ...rest }: Seen): Seen => ({
    ...rest,
    group: sizes.get(group) === 1 ? null : group,
    xattrs: Object.fromEntries(
      Object.entries(xattrs).filter(([name]) => !/^(trusted|user)\.overlay\./.test(name)),
    ),
  });
  return Object.fromEntries(Object.entries(found).map(([path, one]) => [path, plain(one)]));
}
