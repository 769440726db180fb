// An image without a registry: an archive that docker, podman and buildah load.
import { createHash } from 'node:crypto';

const BLOCK = 512;

function header(name, size, type, mode) {
  const block = Buffer.alloc(BLOCK);
  const octal = (value, at, width) => block.write(value.toString(8).padStart(width - 1, '0'), at, 'latin1');
  block.write(name, 0, 'latin1');
  octal(mode, 100, 8);
  octal(0, 108, 8); // owner
  octal(0, 116, 8); // group
  octal(size, 124, 12);
  octal(0, 136, 12); // time
  block.write('        ', 148, 'latin1'); // the checksum, while it is summed up
  block.write(type, 156, 'latin1');
  block.write('ustar\0', 257, 'latin1');
  block.write('00', 263, 'latin1');
  octal(
    block.reduce((sum, byte) => sum + byte, 0),
    148,
    7,
  );
  return block;
}

/** tar(5), the format ustar: names that end with `/` are directories. */
function tar(entries) {
  const blocks = entries.flatMap(([name, content = '']) => {
    const bytes = Buffer.from(content);
    const padding = Buffer.alloc((BLOCK - (bytes.length % BLOCK)) % BLOCK);
    const directory = name.endsWith('/');
    return [header(name, bytes.length, directory ? '5' : '0', directory ? 0o755 : 0o644), bytes, padding];
  });
  return Buffer.concat([...blocks, Buffer.alloc(2 * BLOCK)]);
}

/** What `docker save` writes, of so many layers with one file in each. */
export function imageArchive(name, layers) {
  const contents = Array.from({ length: layers }, (_, i) => tar([[`file${i}`, `${i}\n`]]));
  const digests = contents.map((content) => `sha256:${createHash('sha256').update(content).digest('hex')}`);
  const config = JSON.stringify({
    architecture: process.arch === 'arm64' ? 'arm64' : 'amd64',
    os: 'linux',
    config: { Cmd: ['/none'] },
    rootfs: { type: 'layers', diff_ids: digests },
    history: digests.map(() => ({ created: '2024-01-01T00:00:00Z' })),
    created: '2024-01-01T00:00:00Z',
  });
  const paths = contents.map((_, i) => `${i}/layer.tar`);
  const manifest = [{ Config: 'config.json', RepoTags: [`${name}:latest`], Layers: paths }];
  return tar([
    ['config.json', config],
    ['manifest.json', JSON.stringify(manifest)],
    ...contents.flatMap((content, i) => [[`${i}/`], [paths[i], content]]),
  ]);
}
