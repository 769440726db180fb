/** Trees with everything that a copy must keep: made, and copied up by the kernel, by tree.py. */
import { readFileSync } from 'node:fs';
import { pythonNow } from './python.ts';
import { mapTree, type Raw, readTree } from './view.ts';

const run = pythonNow<readonly string[], null>(readFileSync(new URL('tree.py', import.meta.url), 'utf8'));

/** What is known of one file; access and change times, inode and birth are left out. */
export type TreeEntry = Omit<Raw, 'group'>;

/** Fills a directory. */
export function makeTree(root: string): void {
  run(['make', root]);
}

/** Takes the append-only flags away again, so that it can be removed. */
export function unprotectTree(root: string): void {
  run(['unprotect', root]);
}

/** Has the kernel copy up these paths of a mounted overlay, or all of them. */
export function touchTree(target: string, ...paths: readonly string[]): void {
  run(['touch', target, ...paths]);
}

/** The tree, by paths in Latin-1. */
export async function showTree(root: string): Promise<Record<string, TreeEntry>> {
  return mapTree(await readTree({ path: root, flags: true }), ({ group: _, ...entry }) => entry);
}
