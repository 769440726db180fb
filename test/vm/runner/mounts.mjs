// The mounts of our own namespace.
import { readFileSync } from 'node:fs';
import { attempt, run } from './command.mjs';

/** Where something is mounted, with the flags of each mount, in mounting order. */
export function mounts() {
  return readFileSync('/proc/self/mountinfo', 'latin1')
    .trimEnd()
    .split('\n')
    .map((line) => {
      const [, , , , point, flags] = line.split(' ');
      return { point: unescapeOctal(point), flags: flags.split(',') };
    });
}

/** Whether one path is the other, or lies below it. */
export const isWithin = (path, folder) => path === folder || folder === '/' || path.startsWith(`${folder}/`);

/**
 * Lets go of every mount that none of these paths lies on or, with `below`, lies under: our copies would keep file systems
 * busy that their owners have long unmounted.
 */
export async function letGo({ paths, below }) {
  const needed = (point) =>
    paths.some((path) => isWithin(path, point)) || below.some((folder) => isWithin(point, folder));
  const others = mounts()
    .map(({ point }) => point)
    .filter((point) => !needed(point));
  // A user namespace may not part with what it was made with: it goes on without.
  if (others.length > 0) await attempt('umount', ['--lazy', ...others.reverse()]);
}

/** Shows a directory, with what is mounted in it, at another path, where nothing can be written to it. */
export async function showReadonly(from, to) {
  await run('mount', ['--rbind', from, to]);
  for (const { point, flags } of mounts().filter((one) => isWithin(one.point, to))) {
    const kept = flags.filter((flag) => !['rw', 'ro', 'relatime'].includes(flag));
    await run('mount', ['-o', ['remount', 'bind', 'ro', ...kept].join(','), point]);
  }
}

const unescapeOctal = (text) =>
  Buffer.from(
    text.replace(/\\([0-7]{3})/g, (_, octal) => String.fromCharCode(Number.parseInt(octal, 8))),
    'latin1',
  ).toString();
