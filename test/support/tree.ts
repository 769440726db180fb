/** Trees with everything that a copy must keep: made, copied up by the kernel, and shown, by tree.py. */
import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const program = fileURLToPath(new URL('tree.py', import.meta.url));
const run = (...args: readonly string[]) =>
  execFileSync('python3', [program, ...args], { encoding: 'utf8', maxBuffer: 1 << 26 });

/** What is known of one file; access and change times, inode and birth are left out. */
export interface TreeEntry {
  readonly mode: string;
  readonly owner: readonly [number, number];
  readonly links: number;
  readonly device: number;
  /** Nanoseconds. */
  readonly mtime: string;
  readonly size: number;
  /** Of regular files, in units of 512 bytes. */
  readonly blocks: number;
  readonly content: string | null;
  readonly flags: number;
  /** In hexadecimal. */
  readonly xattrs: Readonly<Record<string, string>>;
}

/** Fills a directory. */
export function makeTree(root: string): void {
  run('make', root);
}

/** Takes the append-only flags away again, so that it can be removed. */
export function unprotectTree(root: string): void {
  run('unprotect', root);
}

/** Has the kernel copy up these paths of a mounted overlay, or all of them. */
export function touchTree(target: string, ...paths: readonly string[]): void {
  run('touch', target, ...paths);
}

/** The tree, by paths in Latin-1. */
export function showTree(root: string): Record<string, TreeEntry> {
  return JSON.parse(run('show', root)) as Record<string, TreeEntry>;
}
