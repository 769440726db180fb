// npm run bench [-- --quick] [-- --filter=<text>] [-- --json] [-- --write] [-- --calls]
//   --quick    a tenth of the time: for a look, not for figures
//   --filter   only rows whose name or file system contains the text
//   --json     JSON in place of tables
//   --write    also put the tables into bench/RESULTS.md; with --filter only the rows that were measured
//   --calls    instead: the system calls of ours beside those of the twin, as strace counts them
// The suite runs in a mount namespace of its own, so nothing that it mounts outlives it, however it ends.
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { compileTwin } from './raw.mjs';

const here = fileURLToPath(new URL('.', import.meta.url));
const flags = { type: 'boolean', default: false };
const { values: options } = parseArgs({
  options: { quick: flags, json: flags, write: flags, calls: flags, filter: { type: 'string', default: '' } },
});

if (options.write && options.quick) fail('--write wants whole figures: leave --quick out.');
if (process.getuid() !== 0) fail('The benchmark mounts file systems: run it as root.');
for (const built of ['dist/index.js', 'build/Release/overlayfs.node']) {
  if (!existsSync(join(here, '..', built))) fail('Build first: npm run build:all');
}

const scratch = mkdtempSync(join(tmpdir(), 'overlayfs-bench-'));
process.on('exit', () => rmSync(scratch, { recursive: true, force: true }));
compileTwin(scratch);
const suite = spawn(
  'unshare',
  ['--mount', '--propagation', 'private', process.execPath, join(here, 'suite.mjs'), scratch].concat(
    JSON.stringify(options),
  ),
  { stdio: 'inherit' },
);
// Ctrl-C reaches the suite by itself; we stay to clean up after it.
process.on('SIGINT', () => {});
process.on('SIGTERM', () => suite.kill());
suite.on('exit', (code, signal) => {
  process.exitCode = signal ? 1 : code;
});

function fail(message) {
  console.error(message);
  process.exit(1);
}
