/** Setting extended attributes by other means than the package's own, byte for byte. */
import { execFileSync } from 'node:child_process';

const program = `
import json, os, sys
for path, name, value in json.load(sys.stdin):
    os.setxattr(path, name, bytes.fromhex(value), follow_symlinks=False)
`;

/** Sets attributes; a symbolic link's own. */
export function setXattrs(
  ...entries: readonly (readonly [path: string, name: string, value: string | Buffer])[]
): void {
  const input = entries.map(([path, name, value]) => [
    path,
    name,
    Buffer.from(value as string).toString('hex'),
  ]);
  execFileSync('python3', ['-c', program], { input: JSON.stringify(input) });
}

/** Sets one. */
export function setXattr(path: string, name: string, value = ''): void {
  setXattrs([path, name, value]);
}
