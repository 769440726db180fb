/** An image as registries know it, made of the directories that hold the content of its layers. */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { archiveLayer } from './archive.ts';
import { tarSplit } from './tar-split.ts';

export interface ImageLayer {
  /** What the store calls it. */
  readonly id: string;
  readonly parent: string | undefined;
  /** The digest of the archive, `sha256:` and hexadecimal. */
  readonly diffId: string;
  /** The digest of this layer on all below it. */
  readonly chainId: string;
  readonly archiveSize: number;
  /** The sum of the sizes of its files. */
  readonly size: number;
  readonly tarSplit: Buffer;
}

export interface Image {
  readonly name: string;
  /** The digest of the configuration. */
  readonly id: string;
  readonly configuration: Buffer;
  /** The base layer first. */
  readonly layers: readonly ImageLayer[];
}

export const digest = (data: string | Buffer): string =>
  `sha256:${createHash('sha256').update(data).digest('hex')}`;

/** Without its algorithm, as it is in names of files. */
export const hexOf = (value: string): string => value.slice('sha256:'.length);

/** Describes an image; the archives are left beside the directories. */
export async function describeImage(
  name: string,
  contents: readonly { readonly id: string; readonly directory: string }[],
): Promise<Image> {
  const layers: ImageLayer[] = [];
  for (const { id, directory } of contents) {
    const entries = await archiveLayer({ directory, archive: `${directory}.tar` });
    const archive = readFileSync(`${directory}.tar`);
    const diffId = digest(archive);
    const below = layers.at(-1);
    layers.push({
      id,
      parent: below?.id,
      diffId,
      chainId: below === undefined ? diffId : digest(`${below.chainId} ${diffId}`),
      archiveSize: archive.length,
      size: entries.reduce((sum, { size }) => sum + size, 0),
      tarSplit: tarSplit(archive, entries),
    });
  }
  const created = '2001-09-09T01:46:40Z';
  const configuration = Buffer.from(
    JSON.stringify({
      created,
      architecture: process.arch === 'x64' ? 'amd64' : process.arch,
      os: 'linux',
      config: { Env: ['PATH=/bin'], Cmd: ['/bin/sh'] },
      rootfs: { type: 'layers', diff_ids: layers.map(({ diffId }) => diffId) },
      history: layers.map(({ id }) => ({ created, created_by: `overlayfs: ${id}` })),
    }),
  );
  return { name, id: digest(configuration), configuration, layers };
}
