/** What containers/storage (podman, buildah, skopeo) keeps of images beside the directory of its driver. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { digest, hexOf, type Image } from './image.ts';

const created = '2001-09-09T01:46:40Z';

/** Writes it below a graph root, where the layers are in `overlay`. */
export function writeContainersMetadata(graphRoot: string, image: Image): void {
  const [layers, images] = ['overlay-layers', 'overlay-images'].map((name) => join(graphRoot, name)) as [
    string,
    string,
  ];
  for (const path of [layers, images]) mkdirSync(path, { recursive: true, mode: 0o700 });
  // A store that is only read must have its locks already.
  for (const path of [join(layers, 'layers.lock'), join(images, 'images.lock')]) writeFileSync(path, '');

  for (const { id, tarSplit } of image.layers) writeFileSync(join(layers, `${id}.tar-split.gz`), tarSplit);
  const known = image.layers.map(({ id, parent, diffId, archiveSize }) => ({
    id,
    ...(parent === undefined ? {} : { parent }),
    created,
    'diff-digest': diffId,
    'diff-size': archiveSize,
  }));
  writeFileSync(join(layers, 'layers.json'), JSON.stringify(known));

  const id = hexOf(image.id);
  const manifest = manifestOf(image);
  const data: Readonly<Record<string, Buffer>> = {
    [image.id]: image.configuration,
    manifest,
    [`manifest-${digest(manifest)}`]: manifest,
  };
  mkdirSync(join(images, id), { mode: 0o700 });
  for (const [name, content] of Object.entries(data))
    writeFileSync(join(images, id, fileName(name)), content);
  const record = {
    id,
    digest: digest(manifest),
    names: [image.name],
    layer: image.layers.at(-1)?.id,
    metadata: '{}',
    'big-data-names': Object.keys(data),
    'big-data-sizes': mapValues(data, ({ length }) => length),
    'big-data-digests': mapValues(data, digest),
    created,
  };
  writeFileSync(join(images, 'images.json'), JSON.stringify([record]));
}

function manifestOf({ id, configuration, layers }: Image): Buffer {
  const type = 'application/vnd.oci.image';
  return Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: `${type}.manifest.v1+json`,
      config: { mediaType: `${type}.config.v1+json`, digest: id, size: configuration.length },
      layers: layers.map(({ diffId, archiveSize }) => ({
        mediaType: `${type}.layer.v1.tar`,
        digest: diffId,
        size: archiveSize,
      })),
    }),
  );
}

// What is not plain is kept in base64.
const fileName = (name: string): string =>
  /^[a-z0-9.]*$/.test(name) ? name : `=${Buffer.from(name).toString('base64')}`;

const mapValues = <From, To>(record: Readonly<Record<string, From>>, make: (value: From) => To) =>
  Object.fromEntries(Object.entries(record).map(([name, value]) => [name, make(value)]));
