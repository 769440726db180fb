// Copying up without a mount, beside a raw twin with as many threads, and beside peers. Each run begins with an empty upper.
// Alone: node bench/copy-up.mjs [seconds] [part of a row's name]
import { execFile, execFileSync } from 'node:child_process';
import {
  closeSync,
  constants,
  ftruncateSync,
  mkdirSync,
  openSync,
  readdirSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { copyFile, cp } from 'node:fs/promises';
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

// Whom it is beside, each a function that copies the lower's directory or its only file once, in nanoseconds.
const raw = {
  name: 'raw: the same system calls, as many threads',
  bound: 1.2,
  start({ scratch }, room, threads) {
    const twin = startTwin(scratch, 'copy-up', room, { threads });
    return { run: () => twin.ask('mount'), end: twin.end };
  },
};
const peer = (name, copy) => ({
  name,
  bound: 1,
  start: (_, room) => {
    const [from, to] = [join(room, 'l0/d'), join(room, 'u0/d')];
    return { run: () => timed(() => copy(from, to)), end() {} };
  },
});
const cpCommand = peer('cp -a --reflink=auto, and sync -f', async (from, to) => {
  await execute('cp', ['-a', '--reflink=auto', from, to]);
  await execute('sync', ['-f', to]);
});
const fsCp = peer('fs.cp(), not durable', (from, to) =>
  cp(from, to, { recursive: true, preserveTimestamps: true }),
);
const oneFile = (copy) => async (from, to) => {
  mkdirSync(to);
  for (const name of readdirSync(from)) await copy(join(from, name), join(to, name));
};
const ficlone = peer(
  'fs.copyFile(), COPYFILE_FICLONE, data alone, not durable',
  oneFile((from, to) => copyFile(from, to, constants.COPYFILE_FICLONE)),
);
// Where it is installed: npm install --no-save @reflink/reflink
const { reflinkFile } = await import('@reflink/reflink').catch(() => ({}));
const reflink = peer('@reflink/reflink, data alone, not durable', oneFile(reflinkFile));

const row = (what, fill, on, threads, beside = raw) => ({
  name: `copyUp(), ${what}, ${on}${threads > 1 ? `, ${threads} threads` : ''}`,
  besideName: beside.name,
  bound: beside.bound,
  measure: (bench) => measureRow(bench, { fill, on, threads, beside }),
});

/** Every row. */
export const copyUpRows = [
  ...['tmpfs', 'ext4', 'xfs', 'btrfs'].flatMap((on) => [
    row('10,000 files of 4 KiB', manySmall, on, 1),
    row('10,000 files of 4 KiB', manySmall, on, 2),
    row('10,000 files of 4 KiB', manySmall, on, 2, cpCommand),
    row('10,000 files of 4 KiB', manySmall, on, 2, fsCp),
  ]),
  row('1 GiB', oneDense, 'ext4', 1),
  ...['xfs', 'btrfs'].flatMap((on) => [
    row('1 GiB', oneDense, on, 1),
    row('1 GiB', oneDense, on, 1, cpCommand),
    row('1 GiB', oneDense, on, 1, ficlone),
    ...(reflinkFile ? [row('1 GiB', oneDense, on, 1, reflink)] : []),
  ]),
  ...['tmpfs', 'ext4', 'xfs'].map((on) => row('1 GiB with 3 MiB of data', oneSparse, on, 1)),
];

async function measureRow(bench, { fill, on, threads, beside }) {
  const room = bench.rooms.make(on, { lowers: 1 });
  const [lower, upper, work] = ['l0', 'u0', 'w0'].map((name) => join(room, name));
  mkdirSync(join(lower, 'd'));
  fill(join(lower, 'd'));
  execFileSync('sync', ['-f', lower]);
  const cleared = (run) => ({
    run: () => {
      for (const name of readdirSync(upper)) rmSync(join(upper, name), { recursive: true });
      return run();
    },
  });
  const ours = () =>
    timed(() => copyUp({ lower, upper, work }, 'd', { recursive: true, concurrency: threads }));
  const { run, end } = beside.start(bench, room, threads);
  try {
    return await interleave({ ours: cleared(ours), beside: cleared(run) }, bench.seconds, 3);
  } finally {
    end();
    rmSync(room, { recursive: true });
  }
}

await alone(import.meta.url, async (bench) => {
  for (const { name, besideName, measure } of copyUpRows)
    if (`${name}, ${besideName}`.includes(process.argv[3] ?? ''))
      print(`${name}, beside ${besideName}`, await measure(bench));
});
