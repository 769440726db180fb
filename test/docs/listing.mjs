// What lies in a directory, as text: the type, the permissions, the size, and what overlayfs means by it.
import { execFileSync } from 'node:child_process';
import { lstatSync, readdirSync, readlinkSync } from 'node:fs';

/** Everything below a directory, by path: what it is. */
export function listing(directory) {
  return new Map(below(directory, '').map((path) => [path, whatIs(`${directory}/${path}`)]));
}

/** Columns side by side, as wide as they need to be. */
export function columns(rows) {
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)));
  return rows.map((row) =>
    row
      .map((cell, column) => cell.padEnd(widths[column]))
      .join('  ')
      .trimEnd(),
  );
}

function below(directory, path) {
  const names = readdirSync(`${directory}/${path}`, { withFileTypes: true });
  return names
    .sort((a, b) => (a.name < b.name ? -1 : 1))
    .flatMap((entry) => {
      const inner = path === '' ? entry.name : `${path}/${entry.name}`;
      return entry.isDirectory() ? [inner, ...below(directory, inner)] : [inner];
    });
}

/** One entry. */
export function whatIs(path) {
  const status = lstatSync(path);
  const mode = (status.mode & 0o7777).toString(8).padStart(4, '0');
  if (status.isDirectory()) return [`directory ${mode}`, ...marks(path)].join(', ');
  if (status.isSymbolicLink()) return `link to ${readlinkSync(path)}`;
  if (status.isCharacterDevice() && status.rdev === 0) return 'whiteout: character device 0:0';
  if (status.isFile()) return `file ${mode}, ${status.size} bytes`;
  throw new Error(`${path}: what is it?`);
}

// What a directory's attributes say to the kernel; not its notes on where it came from.
function marks(path) {
  const names = ['opaque', 'redirect'];
  return names.flatMap((name) => {
    const args = ['--absolute-names', '--only-values', '--name', `trusted.overlay.${name}`, path];
    try {
      const value = execFileSync('getfattr', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
      return [`overlay.${name}=${value}`];
    } catch {
      return [];
    }
  });
}
