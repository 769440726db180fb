/** Open directories to pass in place of paths. */
import { closeSync, constants, openSync, type PathLike } from 'node:fs';

/** The flags that a layer's descriptor may have been opened with; Node.js has no constant for the second. */
export const openings = { O_RDONLY: constants.O_RDONLY, O_PATH: 0o10000000 } as const;

/** Open descriptors, each as a layer, until disposed of. */
export interface OpenDirectories extends Disposable {
  readonly refs: readonly { readonly fd: number }[];
}

/** Opens directories. */
export function openDirectories(flags: number, ...paths: readonly PathLike[]): OpenDirectories {
  const refs = paths.map((path) => ({ fd: openSync(path, flags | constants.O_DIRECTORY) }));
  return {
    refs,
    [Symbol.dispose]: () => {
      for (const { fd } of refs) closeSync(fd);
    },
  };
}
