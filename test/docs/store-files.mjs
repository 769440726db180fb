// The files of a store, with what they hold.
import { lstatSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { columns, listing, whatIs } from './listing.mjs';

/** One line for each, what lies in the layers' content left out. */
export async function storeFiles({ store }) {
  const { root } = store;
  const names = shortNames(root);
  const readable = (text) => [...names].reduce((now, [short, id]) => now.replaceAll(short, id), text);
  const lines = entries(root, '').map((path) => [readable(path), readable(told(root, path))]);
  return columns(lines.sort(([a], [b]) => (a < b ? -1 : 1)));
}

/** The files of the trees of a store for the legacy driver, by inodes. */
export async function sameFiles({ store: { root } }) {
  const all = ['base/root', 'app/root', 'app/diff'].flatMap((tree) =>
    [...listing(`${root}/${tree}`)]
      .filter(([, what]) => what.startsWith('file'))
      .map(([path]) => `${tree}/${path}`),
  );
  const first = new Map();
  const lines = all.map((path) => {
    const { ino } = lstatSync(`${root}/${path}`);
    const known = first.get(ino);
    if (known === undefined) first.set(ino, path);
    return [path, known === undefined ? 'an inode of its own' : `the same inode as ${known}`];
  });
  return columns(lines);
}

function entries(root, directory) {
  return readdirSync(`${root}/${directory}`, { withFileTypes: true }).flatMap((entry) => {
    const path = directory === '' ? entry.name : `${directory}/${entry.name}`;
    const inside = entry.isDirectory() && !['diff', 'root', 'upper', '.overlayfs'].includes(entry.name);
    return inside ? [path, ...entries(root, path)] : [path];
  });
}

function told(root, path) {
  const what = whatIs(`${root}/${path}`);
  const isText = lstatSync(`${root}/${path}`).isFile() && !path.endsWith('.json');
  const text = isText ? readFileSync(`${root}/${path}`, 'utf8') : '';
  // Sizes would be those of the real names.
  return `${what.replace(/, \d+ bytes/, '')}${text === '' ? '' : `: ${text}`}`;
}

// Each as long as the real one would be too long to read.
function shortNames(root) {
  try {
    return new Map(
      readdirSync(`${root}/l`).map((name) => [
        name,
        `${readlinkSync(`${root}/l/${name}`).split('/')[1].toUpperCase()}`,
      ]),
    );
  } catch {
    return new Map();
  }
}
