/**
 * Each path of a mounted overlay beside the place in the layers that whichLayer() names for it.
 */
import { expect } from 'vitest';
import { type LayerStack, type Overlay, whichLayer } from '../../lib/index.ts';
import { type Seen, type View, view } from './view.ts';

const bytes = (path: string) => Buffer.from(path, 'latin1');

/** Checks every path that the mount shows, and every one that only the layers have. */
export async function expectPlaces(
  overlay: Overlay,
  target: string,
  layers: readonly string[],
): Promise<void> {
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
