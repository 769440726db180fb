// @module-tag vm
// For random stacks: what a mount shows of each path is what lies at the place that whichLayer() names.
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import {
  type LayerStack,
  mountOverlay,
  type Overlay,
  type OverlayOptions,
  whichLayer,
} from '../../lib/index.ts';
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
  seed,
  withLowers,
} from '../support/operations.ts';
import { describeOn, type FileSystem } from '../support/scratch.ts';
import { type Seen, type View, view } from '../support/view.ts';

const runs = Number(process.env.OVERLAYFS_TEST_RUNS ?? 2);
const bytes = (path: string) => Buffer.from(path, 'latin1');

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
  it.each([...configurations, ...readOtherwise])('$name', async (configuration) => {
    let count = 0;
    const property = fc.asyncProperty(rounds(), async (sequences) => {
      const lowers = sequences.slice(0, -1);
      await withLowers(scratch.path(`${count++}`), configuration, lowers, (layers) =>
        agrees(layers, configuration, sequences.at(-1) ?? []),
      );
    });
    await fc.assert(property, { numRuns: runs, seed, endOnFailure: false });
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
        await sameAsShown(overlay, target, [...lower]);
      });
    });
    await fc.assert(property, { numRuns: runs, seed });
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
  await sameAsShown(overlay, target, [layers.upper, ...layers.lower]);
}

async function sameAsShown(overlay: Overlay, target: string, layers: readonly string[]): Promise<void> {
  const shown = await view(target, { ghosts: true });
  const stack = overlay.layers();
  const places = new Views();
  for (const [path, seen] of Object.entries(shown)) await expectSame(stack, path, seen, places);
  // What is refused makes a directory that holds copied-up files impossible to list.
  const unlisted = Object.keys(shown)
    .filter((path) => shown[path]?.unlisted !== undefined)
    .map((path) => (path === '.' ? '' : `${path}/`));
  // What the layers have and the mount does not show: deleted, hidden, or elsewhere.
  for (const layer of layers) {
    for (const path of Object.keys(await places.of(layer))) {
      if (!(path in shown) && !unlisted.some((directory) => path.startsWith(directory))) {
        const { exists } = await whichLayer(stack, bytes(path));
        expect({ path, exists }).toEqual({ path, exists: false });
      }
    }
  }
}

async function expectSame(stack: LayerStack, path: string, seen: Seen, places: Views): Promise<void> {
  const told = await whichLayer(stack, bytes(path));
  if (seen.error !== undefined) {
    expect({ path, error: told.error }).toEqual({ path, error: seen.error });
    return;
  }
  expect({ path, error: told.error, type: told.type }).toEqual({ path, error: undefined, type: seen.type });
  const real = await places.at(told.place?.realPathBytes);
  // A data-only layer is asked when the file is opened: without the data it exists, and cannot be read.
  const missing = seen.type === 'file' && told.data === undefined;
  if (missing)
    expect({ path, content: seen.content }).toEqual({ path, content: expect.stringMatching(/^E[A-Z]+$/) });
  const data = seen.type !== 'file' ? real : missing ? seen : await places.at(told.data?.realPathBytes);
  expect({ path, ...comparable(seen) }).toEqual({ path, ...comparable({ ...real, content: data.content }) });
}

// What overlayfs keeps for itself does not show.
function comparable({ xattrs, group: _, unlisted: __, ...seen }: Seen) {
  const shown = Object.entries(xattrs).filter(([name]) => !/^(trusted|user)\.overlay\./.test(name));
  return { ...seen, xattrs: Object.fromEntries(shown) };
}

/** Layers, each read once. */
class Views {
  readonly #views = new Map<string, Promise<View>>();

  of(directory: string): Promise<View> {
    const known = this.#views.get(directory) ?? view(directory);
    this.#views.set(directory, known);
    return known;
  }

  async at(path: Buffer | undefined): Promise<Seen> {
    const [, layer = '', inside = '.'] =
      /^(.*\/(?:upper|target|work\/index))(?:\/(.*))?$/s.exec(path?.toString('latin1') ?? '') ?? [];
    const seen = (await this.of(layer))[inside];
    if (seen === undefined) throw new Error(`nothing is at ${path?.toString('latin1')}`);
    return seen;
  }
}
