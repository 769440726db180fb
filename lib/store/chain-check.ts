/**
 * Whether what each layer says of its parents is what they say themselves.
 * @module
 */
import type { LayerRecord } from './driver.ts';
import { damage, type Problem } from './problem.ts';

/** What is wrong with the chains; `chainOf` gives the parents, nearest first, or undefined where nothing tells them. */
export function chainProblems(
  layers: readonly LayerRecord[],
  chainOf: (layer: LayerRecord) => readonly string[] | undefined,
  named: string,
): Problem[] {
  const chains = new Map(layers.map((layer) => [layer.id, chainOf(layer)]));
  return layers.flatMap(({ id }) => {
    const chain = chains.get(id) ?? [];
    const circle = circleOf(id, chains);
    const path = named === '' ? id : `${id}/${named}`;
    if (circle !== undefined) return [damage(id, path, `the layer lies below itself: ${circle.join(' → ')}`)];
    const [parent, ...below] = chain;
    const parents = parent === undefined ? undefined : chains.get(parent);
    if (parents === undefined || below.join() === parents.join()) return [];
    const [own, its] = [below, parents].map((ids) => (ids.length === 0 ? 'nothing' : ids.join(' → ')));
    return [damage(id, path, `it takes its parent ${parent} to lie on ${own}, and that lies on ${its}`)];
  });
}

// By its own word, or by those of its parents one after the other.
function circleOf(
  id: string,
  chains: ReadonlyMap<string, readonly string[] | undefined>,
): readonly string[] | undefined {
  const chain = chains.get(id) ?? [];
  if (chain.includes(id)) return [id, ...chain];
  const walked = [id];
  for (let parent = chain[0]; parent !== undefined; parent = chains.get(parent)?.[0]) {
    if (parent === id) return [...walked, id];
    if (walked.includes(parent)) return undefined; // it is not in the circle that it leads to
    walked.push(parent);
  }
  return undefined;
}
