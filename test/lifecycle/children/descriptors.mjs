// What this process has open, whichever of its threads opened it.
import { constants, readdirSync, readFileSync, readlinkSync } from 'node:fs';

// Directories, and what is only located: a file that Node.js is opening when its worker is terminated it leaves open.
function ofOurs(fd) {
  try {
    const [, flags] = /^flags:\s*(\d+)/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'latin1'));
    const O_PATH = 0o10000000;
    return Number.parseInt(flags, 8) & (O_PATH | constants.O_DIRECTORY)
      ? [readlinkSync(`/proc/self/fd/${fd}`)]
      : [];
  } catch {
    return []; // that of this very listing
  }
}

/** The names of our descriptors. */
export const openInAnyThread = () => readdirSync('/proc/self/fd').flatMap(ofOurs);
