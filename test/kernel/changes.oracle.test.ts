// @module-tag vm
// For random stacks, what we say and do beside the kernel's own views, before and after: the change set is what lies between
// them, applying it makes the one look as the other, and what the layers show with no mount is what the mount shows.
import { lstatSync, mkdirSync } from 'node:fs';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import {
  applyChanges,
  type Change,
  type ChangeOptions,
  changes,
  type LayerStack,
  mergedView,
  mountOverlay,
} from '../../lib/index.ts';
import { type ChangeSet, changeSet, expectBetween, expectLinks } from '../support/change-set.ts';
import { run } from '../support/commands.ts';
import { expectMerged } from '../support/merged-read.ts';
import { expectPlaces } from '../support/mounted-names.ts';
import {
  artefact,
  type Configuration,
  configurations,
  type MadeLayers,
  type Operation,
  operate,
  operations,
  populate,
  rounds,
  scatter,
  withLowers,
} from '../support/operations.ts';
import { chosenFrom, describeOn } from '../support/scratch.ts';
import { oracleRuns, replay } from '../support/sequences.ts';
import { asPlain, mapTree, type Seen, type View, view } from '../support/view.ts';
import { compareViews, writtenChanges } from '../support/written-changes.ts';

const on = chosenFrom(['tmpfs', 'ext4', 'xfs']);
const artefacts = [
  { name: 'everything honoured', read: { metacopy: true, redirectDir: 'on' } },
  { name: 'the defaults', read: {} },
  { name: 'redirects refused', read: { redirectDir: 'nofollow' } },
] as const;
const runs = oracleRuns(165, on.length * (configurations.length + artefacts.length));
// Each takes about a quarter of a second, more where others are at work, and a failure has to be shrunk.
const patience = (60_000 + runs * 3_000) * Number(process.env.OVERLAYFS_TEST_TIME_SCALE ?? 1);

describeOn(on, 'changes, applyChanges, mergedView and whichLayer agree with the kernel', (scratch) => {
  it.each(configurations)(
    '$name',
    async (configuration) => {
      let count = 0;
      const property = fc.asyncProperty(rounds(), async (sequences) => {
        const root = scratch.path(`${count++}`);
        await withLowers(root, configuration, sequences.slice(0, -1), (layers) =>
          agrees(layers, configuration, sequences.at(-1) ?? [], `${root}/copies`),
        );
      });
      await fc.assert(property, {
        ...replay,
        numRuns: runs,
        interruptAfterTimeLimit: patience - 15_000,
        markInterruptAsFailure: true,
      });
    },
    patience,
  );
});

// Layers of other make than the kernel's, the upper among them: what it would not look up is an error.
describeOn(
  on,
  'changes and mergedView agree with the kernel on layers with artefacts at random',
  (scratch) => {
    const layers = fc.array(fc.tuple(operations(), fc.array(artefact, { maxLength: 8, size: 'max' })), {
      minLength: 2,
      maxLength: 4,
      size: 'max',
    });
    it.each(artefacts)(
      '$name',
      async ({ read }) => {
        let count = 0;
        let whole = 0;
        const property = fc.asyncProperty(layers, async (made) => {
          const root = scratch.path(`${count++}`);
          await withLowers(root, { name: '', written: {} }, [], async ({ target, upper, work }) => {
            const lower = made.slice(1).map((_, number) => `${root}/lower${number}`);
            for (const [number, [sequence, marks]] of made.entries()) {
              const layer = [upper, ...lower][number] as string;
              mkdirSync(layer, { recursive: true });
              await populate(layer, sequence);
              await scatter(layer, marks);
            }
            const stack = { lower, upper, work, ...read };
            let refused = false;
            const looked = (layers: LayerStack) => async (_: Mounted, shown: View) => {
              refused ||= Object.values(shown).some(isRefused) || (await refusesUnlisted(layers, target));
            };
            const lowers = { ...read, lower };
            const before = await viewOf({ ...lowers, target, allowSingleLower: true }, looked(lowers));
            const after = await viewOf({ ...stack, target }, looked(stack));
            if (refused) return;
            whole++;
            await expectMergedView(stack, after);
            await expectChanges(stack, before, after);
          });
        });
        await fc.assert(property, {
          ...replay,
          numRuns: runs,
          interruptAfterTimeLimit: patience - 15_000,
          markInterruptAsFailure: true,
        });
        // The kernel refuses something in most of them.
        if (count > 20) expect(whole).toBeGreaterThan(count / 20);
      },
      patience,
    );
  },
);

const isRefused = ({ error, unlisted, content }: Seen) =>
  error !== undefined || unlisted !== undefined || content?.startsWith('E') === true;

// In a directory with whiteouts that are files the kernel does not list what it would not look up.
async function refusesUnlisted(stack: LayerStack, target: string): Promise<boolean> {
  await using merged = await mergedView(stack);
  for await (const { pathBytes, stats } of merged.walk('.', { stats: true })) {
    if (stats !== undefined) continue;
    expect(() => lstatSync(Buffer.concat([Buffer.from(`${target}/`), pathBytes]))).toThrow();
    return true;
  }
  return false;
}

async function agrees(
  layers: MadeLayers,
  { written }: Configuration,
  sequence: readonly Operation[],
  copies: string,
): Promise<void> {
  const { target, ...directories } = layers;
  const { upper: _, work: __, ...lowers } = directories;
  const stack: LayerStack = { ...directories, ...meaning(written) };
  const before = await viewOf({ ...written, ...lowers, target, allowSingleLower: true }, () =>
    copy(target, copies),
  );
  await using overlay = await mountOverlay({ ...written, ...directories, target });
  await operate(target, sequence);
  const mounted = await view(target);
  // While it is mounted, as after.
  expectBetween(await told(overlay.layers(), everything), before, mounted);
  await expectMergedView(overlay.layers(), mounted);
  await overlay.unmount();

  const after = await viewOf({ ...written, ...directories, target }, async (again, shown) => {
    await expectMergedView(stack, shown);
    await expectPlaces(again, target, [layers.upper, ...layers.lower]);
  });
  await expectChanges(stack, before, after);
  await expectApplied(stack, asPlain(before), asPlain(after), copies);
}

const everything = { compare: 'content', dirTimes: true } as const;

async function expectChanges(stack: LayerStack, before: View, after: View): Promise<void> {
  const links = await view(stack.upper as string);
  for (const options of [
    { ...everything, threads: 2 },
    { ...everything, expand: true, threads: 1 },
    { ...everything, renames: false },
    { ...everything, renames: false, expand: true, order: 'any' },
  ] as const) {
    const set = await told(stack, options);
    expectBetween(set, before, after, options);
    expectLinks(set, links);
  }
}

const waysToApply = ['naive', 'all copied up', 'renames', 'no renames'] as const;

// Of each way a copy of what the mount shows now.
async function copy(target: string, copies: string): Promise<void> {
  mkdirSync(copies);
  for (const name of waysToApply) run(['cp', '-a', target, `${copies}/${name}`]);
}

async function expectApplied(stack: LayerStack, before: View, after: View, copies: string): Promise<void> {
  const upper = await view(stack.upper as string);
  for (const way of waysToApply) {
    const target = `${copies}/${way}`;
    let isLinked = (_: string): boolean => true;
    if (way === 'naive') {
      expect(asPlain(await view(target))).toEqual(before);
      await using naive = await writtenChanges(stack, compareViews(before, after));
      const { applied, skipped } = await applyChanges(naive.all, target);
      expect({ applied: applied.length, skipped }).toEqual({ applied: naive.all.length, skipped: [] });
    } else {
      const compare = way === 'all copied up' ? 'none' : 'content';
      await using stream = changes(stack, { ...everything, compare, renames: way !== 'no renames' });
      const { applied } = await applyChanges(stream, target);
      const told = applied.map(({ pathBytes }) => pathBytes.toString('latin1'));
      const groups = new Set(told.map((path) => upper[path]?.group ?? path));
      // A copy-up that has changed nothing is no change, though without an index it parts a file from its other names. What
      // came along with a directory is new without renames, and no longer one with its other names in the lowers.
      if (way !== 'all copied up')
        isLinked = (path) =>
          path in upper
            ? groups.has(upper[path]?.group ?? path) || (stack.index === true && way === 'renames')
            : way === 'renames';
    }
    const linked = (shown: View) =>
      asPlain(mapTree(shown, (seen, path) => (isLinked(path) ? seen : { ...seen, group: null })));
    expect({ way, view: linked(await view(target)) }).toEqual({ way, view: linked(after) });
  }
}

async function expectMergedView(stack: LayerStack, shown: View): Promise<void> {
  await using merged = await mergedView(stack);
  await expectMerged(merged, shown);
}

type Mount = Parameters<typeof mountOverlay>[0] & { readonly target: string };
type Mounted = Awaited<ReturnType<typeof mountOverlay>>;

async function viewOf(
  options: Mount,
  also: (overlay: Mounted, shown: View) => Promise<void> = async () => {},
): Promise<View> {
  await using overlay = await mountOverlay(options);
  const shown = await view(options.target);
  await also(overlay, shown);
  return shown;
}

// The options of a mount that say what layers mean.
function meaning({
  index,
  metacopy,
  userxattr,
  redirectDir,
}: Configuration['written']): Omit<LayerStack, 'lower'> {
  return JSON.parse(JSON.stringify({ index, metacopy, userxattr, redirectDir }));
}

async function told(stack: Parameters<typeof changes>[0], options: ChangeOptions): Promise<ChangeSet> {
  await using stream = changes(stack, options);
  const all: Change[] = [];
  for await (const change of stream) all.push(change);
  const { consistent, counts, errors } = await stream.done;
  expect({ consistent, errors }).toEqual({ consistent: true, errors: [] });
  expect(Object.values(counts).reduce((sum, one) => sum + one, 0)).toBe(all.length);
  return changeSet(all, options);
}
