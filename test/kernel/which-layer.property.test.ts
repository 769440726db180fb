// Stacks that changes.oracle.test.ts has none of: read otherwise than written, and with artefacts at random.
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { it } from 'vitest';
import { mountOverlay, type OverlayOptions } from '../../lib/index.ts';
import { expectPlaces } from '../support/mounted-names.ts';
import {
  artefact,
  type Configuration,
  type MadeLayers,
  type Operation,
  operate,
  operations,
  populate,
  rounds,
  scatter,
  withLowers,
} from '../support/operations.ts';
import { describeOn, type FileSystem } from '../support/scratch.ts';
import { oracleRuns, replay } from '../support/sequences.ts';

const runs = oracleRuns(42, 21);

// Read otherwise than written: what the options do not honour is refused, and told.
const readOtherwise: readonly Configuration[] = [
  { name: 'redirects under nofollow', written: { redirectDir: 'on' }, read: { redirectDir: 'nofollow' } },
  {
    name: 'metacopy files under metacopy off',
    written: { metacopy: true },
    read: { metacopy: false, redirectDir: 'follow' },
  },
];
const on: readonly FileSystem[] = ['tmpfs', 'ext4', 'xfs'];

describeOn(on, 'whichLayer agrees with the kernel', (scratch) => {
  it.each(readOtherwise)('$name', async (configuration) => {
    let count = 0;
    const property = fc.asyncProperty(rounds(), async (sequences) => {
      const lowers = sequences.slice(0, -1);
      await withLowers(scratch.path(`${count++}`), configuration, lowers, (layers) =>
        agrees(layers, configuration, sequences.at(-1) ?? []),
      );
    });
    await fc.assert(property, { ...replay, numRuns: runs });
  });
});

// Layers of other make than the kernel's: what is malformed must be refused as the kernel refuses it.
describeOn(on, 'whichLayer agrees with the kernel on layers with artefacts at random', (scratch) => {
  const artefacts = fc.array(artefact, { maxLength: 12, size: 'max' });
  it.each([
    { name: 'everything honoured', read: { metacopy: true, redirectDir: 'on' } },
    { name: 'the defaults', read: {} },
    { name: 'redirects refused', read: { redirectDir: 'nofollow' } },
    { name: 'a data-only layer', read: { metacopy: true, redirectDir: 'on' }, dataOnly: true },
    { name: 'a data-only layer, metacopy off', read: {}, dataOnly: true },
  ] as const)('$name', async ({ read, dataOnly = false }: ReadAs) => {
    let count = 0;
    const layers = fc.array(fc.tuple(operations(), artefacts), { minLength: 3, maxLength: 4, size: 'max' });
    const property = fc.asyncProperty(layers, async (made) => {
      const root = scratch.path(`${count++}`);
      await withLowers(root, { name: '', written: {} }, [], async ({ target, upper, work }) => {
        const lower: string[] = [];
        for (const [number, [sequence, marks]] of made.entries()) {
          lower.push(directory(root, `${number}/upper`));
          await populate(lower[number] as string, sequence);
          await scatter(lower[number] as string, marks);
        }
        const dataOnlyLower = dataOnly ? lower.splice(-1) : [];
        await using overlay = await mountOverlay({ ...read, lower, dataOnlyLower, upper, work, target });
        await expectPlaces(overlay, target, [...lower]);
      });
    });
    await fc.assert(property, { ...replay, numRuns: runs });
  });
});

interface ReadAs {
  readonly read: Partial<OverlayOptions>;
  readonly dataOnly?: boolean;
}

function directory(...names: string[]): string {
  const path = join(...names);
  mkdirSync(path, { recursive: true });
  return path;
}

async function agrees(
  { target, ...layers }: MadeLayers,
  { written, read = written }: Configuration,
  sequence: readonly Operation[],
): Promise<void> {
  {
    await using _ = await mountOverlay({ ...written, ...layers, target });
    await operate(target, sequence);
  }
  await using overlay = await mountOverlay({ ...read, ...layers, target });
  await expectPlaces(overlay, target, [layers.upper, ...layers.lower]);
}
