/**
 * The kernel's own defaults for overlays.
 * @module
 */
import { readdir, readFile } from 'node:fs/promises';

/** `/sys/module/overlay/parameters`: what an option is that a mount does not set. */
export async function moduleParameters(): Promise<Record<string, string>> {
  const directory = '/sys/module/overlay/parameters';
  const names = await readdir(directory).catch(() => []);
  const values = await Promise.all(names.map((name) => readFile(`${directory}/${name}`, 'utf8')));
  return Object.fromEntries(names.map((name, i) => [name, values[i]?.trim() ?? '']));
}
