// What the package says of the kernel that this runs on, with a directory on tmpfs; one line of JSON.
import { mkdtempSync, rmdirSync } from 'node:fs';
import { version } from 'node:os';
import { support } from '../../dist/index.js';

const upper = mkdtempSync('/dev/shm/overlayfs-');
const answers = await support({ upper });
rmdirSync(upper);
console.log(
  JSON.stringify({ ...answers, version: version() }, (_, value) =>
    typeof value === 'bigint' ? String(value) : value,
  ),
);
