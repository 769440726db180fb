/** Setting extended attributes by other means than the package's own, byte for byte. */
import { bytes, command } from './commands.ts';

/** Sets attributes; a symbolic link's own. */
export function setXattrs(
  ...entries: readonly (readonly [path: string, name: string, value: string | Buffer])[]
): void {
  const asHex = (value: string | Buffer) => Buffer.from(value as string).toString('hex');
  command(['setxattrs', ...entries.map(([path, name, value]) => [bytes(path), bytes(name), asHex(value)])]);
}

/** Sets one. */
export function setXattr(path: string, name: string, value = ''): void {
  setXattrs([path, name, value]);
}
