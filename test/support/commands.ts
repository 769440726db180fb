/**
 * What tests do to the world that Node.js has no calls for, and not by the package. Written as the commands are, but done
 * by one process that waits: under emulation starting one costs fifty times as much.
 */
import { readFileSync } from 'node:fs';
import { pythonNow } from './python.ts';

type Word = string | number | readonly string[];

/** One command, by its name in commands.py; text stands for bytes as latin1. */
export const command = pythonNow<readonly Word[], string | null>(
  readFileSync(new URL('commands.py', import.meta.url), 'utf8'),
);

/** UTF-8, as latin1. */
export const bytes = (text: string): string => Buffer.from(text).toString('latin1');

/** mount(8), asking the kernel at once: no helpers, no loop devices. */
export function mount(...words: readonly string[]): void {
  command(['mount', ...words.map(bytes)]);
}

/** umount(8), with `--lazy` and `--recursive`. */
export function umount(...words: readonly string[]): void {
  command(['umount', ...words.map(bytes)]);
}

/** mknod(1): `c` and `b` with two numbers, `p` without. */
export function mknod(path: string, kind: 'b' | 'c', major: number, minor: number): void {
  command(['mknod', bytes(path), kind, major, minor]);
}

/** mkfifo(1). */
export function mkfifo(path: string): void {
  command(['mknod', bytes(path), 'p']);
}

/** Any other command, to its end; returns what it printed. */
export function run(words: readonly string[], cwd = '/'): string {
  return command(['run', bytes(cwd), ...words.map(bytes)]) ?? '';
}

/** rm(1), with `-rf --one-file-system`. */
export function removeTree(path: string): void {
  command(['remove', bytes(path)]);
}

/** chattr(1), with the letters `a` and `i`. */
export function chattr(change: string, path: string): void {
  command(['chattr', change, bytes(path)]);
}
