// @module-tag vm
// For random stacks: the change set is exactly what lies between the kernel's own views, before and after.
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { type Change, type ChangeOptions, changes, mountOverlay } from '../../lib/index.ts';
import { type ChangeSet, changeSet, expectBetween, expectLinks } from '../support/change-set.ts';
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
import { describeOn, type FileSystem } from '../support/scratch.ts';
import { view } from '../support/view.ts';

const runs = Number(process.env.OVERLAYFS_TEST_RUNS ?? 5);
const on: readonly FileSystem[] = ['tmpfs', 'ext4', 'xfs'];

describeOn(on, 'changes() tells what lies between the views', (scratch) => {
  it.each(configurations)('$name', async (configuration) => {
    let count = 0;
    const property = fc.asyncProperty(rounds(), async (sequences) => {
      await withLowers(scratch.path(`${count++}`), configuration, sequences.slice(0, -1), (layers) =>
        agrees(layers, configuration, sequences.at(-1) ?? []),
      );
    });
    await fc.assert(property, {
      numRuns: runs,
      seed,
      endOnFailure: process.env.OVERLAYFS_TEST_SHRINK !== '1',
    });
  });
});

async function agrees(
  { lower, upper, work, target }: MadeLayers,
  { written }: Configuration,
  sequence: readonly Operation[],
): Promise<void> {
  const before = await viewOf({ ...written, lower, target, allowSingleLower: true });
  {
    await using overlay = await mountOverlay({ ...written, lower, upper, work, target });
    await operate(target, sequence);
    // While it is mounted, as after.
    const mounted = await told(overlay.layers(), { compare: 'content', dirTimes: true });
    expectBetween(mounted, before, await view(target));
  }
  const stack = { lower, upper, work, ...meaning(written) };
  const after = await viewOf({ ...written, lower, upper, work, target });
  for (const options of [
    { compare: 'content', dirTimes: true, threads: 2 },
    { compare: 'content', dirTimes: true, expand: true, threads: 1 },
    { compare: 'content', dirTimes: true, renames: false },
    { compare: 'content', dirTimes: true, renames: false, expand: true, order: 'any' },
  ] as const) {
    const set = await told(stack, options);
    expectBetween(set, before, after, options);
    expectLinks(set, await view(upper));
  }
}

async function viewOf(options: Parameters<typeof mountOverlay>[0] & { target: string }) {
  await using _ = await mountOverlay(options);
  return await view(options.target);
}

// The options of a mount that say what layers mean.
function meaning({ index, metacopy, userxattr, redirectDir }: Configuration['written']) {
  return {
    ...(index === undefined ? {} : { index }),
    ...(metacopy === undefined ? {} : { metacopy }),
    ...(userxattr === undefined ? {} : { userxattr }),
    ...(redirectDir === undefined ? {} : { redirectDir }),
  };
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
