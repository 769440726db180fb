// The guest's first file system: a cpio archive of files (`newc`, Documentation/driver-api/early-userspace/buffer-format.rst).

const S_IFDIR = 0o040000;
const S_IFREG = 0o100000;

/** Files by path, each with its content and mode; the folders that they lie in are made. */
export function archive(files) {
  const folders = new Set();
  for (const path of Object.keys(files)) {
    const parts = path.split('/').slice(0, -1);
    parts.forEach((_, i) => {
      folders.add(parts.slice(0, i + 1).join('/'));
    });
  }
  const entries = [
    ...[...folders].map((path) => [path, S_IFDIR | 0o755, Buffer.alloc(0)]),
    ...Object.entries(files).map(([path, { content, mode = 0o644 }]) => [path, S_IFREG | mode, content]),
    ['TRAILER!!!', 0, Buffer.alloc(0)],
  ];
  return Buffer.concat(entries.flatMap(([path, mode, content], i) => entry(i + 1, path, mode, content)));
}

function entry(inode, path, mode, content) {
  const name = Buffer.from(`${path}\0`);
  const fields = [inode, mode, 0, 0, 1, 0, content.length, 0, 0, 0, 0, name.length, 0];
  const header = `070701${fields.map((field) => field.toString(16).padStart(8, '0')).join('')}`;
  return [Buffer.from(header), name, padding(header.length + name.length), content, padding(content.length)];
}

const padding = (length) => Buffer.alloc(-length & 3);
