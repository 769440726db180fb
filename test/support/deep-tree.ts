/** Trees that are deeper than paths are long. */
import { execFileSync } from 'node:child_process';

const dig = `
import os, sys
root, levels, name, content = sys.argv[1:]
os.chdir(root)
for i in range(int(levels)):
    if content: open('file', 'w').write(content)
    os.mkdir(name); os.chdir(name)`;

/** A directory in a directory, so many levels deep, each with a `file` if there is a `content` for it. */
export function digTree(root: string, levels: number, name: string, content = ''): void {
  execFileSync('python3', ['-c', dig, root, `${levels}`, name, content]);
}

/** How many regular files a tree holds, however deep. */
export function countFiles(root: string): number {
  return execFileSync('find', ['.', '-type', 'f', '-printf', 'f'], { cwd: root }).length;
}
