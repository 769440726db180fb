/** What Docker's daemon keeps of images beside a storage driver's directory: with it, it opens a root that it has not made. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { StoreDriver } from '../../../lib/store/index.ts';
import { hexOf, type Image } from './image.ts';

/** Writes it below a data root, where the layers are in the directory named after the driver. */
export function writeDockerMetadata(dataRoot: string, driver: StoreDriver, image: Image): void {
  const at = (...names: string[]): string => {
    const path = join(dataRoot, 'image', driver, ...names);
    mkdirSync(path, { recursive: true, mode: 0o700 });
    return path;
  };
  writeFileSync(join(at('imagedb/content/sha256'), hexOf(image.id)), image.configuration);
  at('imagedb/metadata/sha256');
  const chainIds = new Map(image.layers.map(({ id, chainId }) => [id, chainId]));
  for (const { id, parent, diffId, chainId, size, tarSplit } of image.layers) {
    const files = {
      'cache-id': id,
      diff: diffId,
      size: String(size),
      'tar-split.json.gz': tarSplit,
      ...(parent === undefined ? {} : { parent: chainIds.get(parent) ?? '' }),
    };
    const layer = at('layerdb/sha256', hexOf(chainId));
    for (const [name, content] of Object.entries(files)) writeFileSync(join(layer, name), content);
  }
  const repositories = { [image.name]: { [`${image.name}:latest`]: image.id } };
  writeFileSync(join(at(), 'repositories.json'), JSON.stringify({ Repositories: repositories }));
}
