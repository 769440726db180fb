/** Trees with everything that a copy must keep: made, and copied up by the kernel, by tree.py. */
import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { mapTree, type Raw, readTree } from './view.ts';

const program = fileURLToPath(new URL('tree.py', import.meta.url));
const run = (...args: readonly string[]) =>
  execFileSync('python3', [program, ...args], { encoding: 'utf8', maxBuffer: 1 << 26 });

/** What is known of one file; access and change times, inode and birth are left out. */
export type TreeEntry = Omit<Raw, 'group'>;

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
export async function showTree(root: string): Promise<Record<string, TreeEntry>> {
  return mapTree(await readTree({ path: root, flags: true }), ({ group: _, ...entry }) => entry);
}
