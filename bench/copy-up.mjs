// Copying up without a mount, beside a raw twin with as many threads, fs.cp and cp(1). Each run begins with an empty upper.
// Alone: node bench/copy-up.mjs [seconds] [part of a row's name]
import { execFile } from 'node:child_process';
import {
  closeSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readdirSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { cp } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { copyUp } from '../dist/index.js';
import { alone, print } from './alone.mjs';
import { timed } from './contenders.mjs';
import { interleave } from './measure.mjs';
import { startTwin } from './raw.mjs';

const execute = promisify(execFile);
const FILES = 10_000;
const MEBIBYTE = 1 << 20;

const manySmall = (directory) => {
  for (let i = 0; i < FILES; i++) writeFileSync(join(directory, `file${i}`), Buffer.alloc(4096, i));
};
const oneDense = (directory) => {
  const file = openSync(join(directory, 'dense'), 'w');
  for (let i = 0; i < 1024; i++) writeSync(file, Buffer.alloc(MEBIBYTE, i + 1));
  closeSync(file);
};
const oneSparse = (directory) => {
  const file = openSync(join(directory, 'sparse'), 'w');
  ftruncateSync(file, 1024 * MEBIBYTE);
  for (const at of [1, 512, 1000]) writeSync(file, Buffer.alloc(MEBIBYTE, 1), 0, MEBIBYTE, at * MEBIBYTE);
  closeSync(file);
};

const row = (what, fill, on, threads, peers = false) => ({
  name: `copyUp(), ${what}, ${on}${threads > 1 ? `, ${threads} threads` : ''}`,
  besideName: 'raw: the same system calls, as many threads',
  bound: 1.2,
  measure: (bench) => measureRow(bench, { fill, on, threads, peers }),
});

/** Every row. */
export const copyUpRows = [
  ...['tmpfs', 'ext4', 'xfs', 'btrfs'].flatMap((on) => [
    row('10,000 files of 4 KiB', manySmall, on, 1),
    row('10,000 files of 4 KiB', manySmall, on, 2, true),
  ]),
  row('1 GiB', oneDense, 'ext4', 1),
  row('1 GiB', oneDense, 'xfs', 1),
  row('1 GiB', oneDense, 'btrfs', 1),
  ...['tmpfs', 'ext4', 'xfs'].map((on) => row('1 GiB with 3 MiB of data', oneSparse, on, 1)),
];

async function measureRow({ scratch, rooms, seconds }, { fill, on, threads, peers }) {
  const room = rooms.make(on, { lowers: 1 });
  const [lower, upper, work] = ['l0', 'u0', 'w0'].map((name) => join(room, name));
  mkdirSync(join(lower, 'd'));
  fill(join(lower, 'd'));
  const empty = () => {
    for (const name of readdirSync(upper)) rmSync(join(upper, name), { recursive: true });
  };
  const cleared = (run) => async () => {
    empty();
    return run();
  };
  const twin = startTwin(scratch, 'copy-up', room, { threads });
  const from = join(lower, 'd');
  const to = join(upper, 'd');
  const contenders = {
    ours: cleared(() =>
      timed(() => copyUp({ lower, upper, work }, 'd', { recursive: true, concurrency: threads })),
    ),
    beside: cleared(() => twin.ask('mount')),
    ...(peers
      ? {
          'cp -a, and sync': cleared(() =>
            timed(async () => {
              await execute('cp', ['-a', '--reflink=auto', from, to]);
              await execute('sync', ['-f', upper]);
            }),
          ),
          'fs.cp, not durable': cleared(() =>
            timed(() => cp(from, to, { recursive: true, preserveTimestamps: true })),
          ),
        }
      : {}),
  };
  try {
    const runs = Object.entries(contenders).map(([name, run]) => [name, { run }]);
    return await interleave(Object.fromEntries(runs), seconds, 3);
  } finally {
    twin.end();
    rmSync(room, { recursive: true });
  }
}

await alone(import.meta.url, async (bench) => {
  for (const { name, measure } of copyUpRows)
    if (name.includes(process.argv[3] ?? '')) print(name, await measure(bench));
});
