// What is done through a mounted overlay: copying up ahead of time, and renaming by copying. Each run has an overlay of its
// own, which is not part of the time.
import { execFile } from 'node:child_process';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { mountOverlay } from '../dist/index.js';
import { timed } from './contenders.mjs';
import { interleave } from './measure.mjs';
import { startTwin } from './raw.mjs';

const execute = promisify(execFile);
const FILES = 10_000;
const TREE = 2_000;
const THREADS = 4;

/** Every row, as those of inspect.mjs. */
export const mountedRows = ['tmpfs', 'ext4'].flatMap((on) => [
  {
    name: `copyUp() through the mount, ${FILES} files of 4 KiB, ${on}${on === 'ext4' ? ', volatile' : ''}`,
    besideName: `raw: the same system calls, ${THREADS} threads`,
    bound: 1.2,
    measure: (bench) => copyUpRow(bench, on, byTwin),
  },
  {
    name: `copyUp() through the mount, ${FILES} files of 4 KiB, ${on}${on === 'ext4' ? ', volatile' : ''}`,
    besideName: 'Node.js: open and close of each, 4 at a time',
    bound: 1,
    measure: (bench) => copyUpRow(bench, on, byNode),
  },
  {
    name: `rename() by copying, ${TREE} files of 4 KiB, ${on}${on === 'ext4' ? ', volatile' : ''}`,
    besideName: 'cp -a, sync -f, mv, rm -r',
    bound: 1,
    measure: (bench) => renameRow(bench, on),
  },
]);

const names = (count) => Array.from({ length: count }, (_, i) => `file-${i}`);

function makeRoom({ rooms }, on, count) {
  const room = rooms.make(on, {});
  mkdirSync(join(room, 'l0/d'));
  for (const name of names(count)) writeFileSync(join(room, 'l0/d', name), Buffer.alloc(4096, name));
  return room;
}

/** Times `work` in a fresh overlay; on a disk a volatile one, or it is the disk's fsync(2) of each file that is measured. */
async function inOverlay(room, on, work) {
  const [lower, upper, workDirectory, target] = ['l0', 'u0', 'w0', 'm0'].map((name) => join(room, name));
  const overlay = await mountOverlay({
    lower,
    upper,
    work: workDirectory,
    target,
    checkInUse: false,
    volatile: on === 'ext4',
  });
  const took = await work(overlay, target);
  await overlay.unmount();
  for (const directory of [upper, workDirectory]) {
    rmSync(directory, { recursive: true });
    mkdirSync(directory);
  }
  return took;
}

function byTwin({ scratch }, room) {
  const twin = startTwin(scratch, 'copy-up-mounted', room, {});
  return { run: () => twin.ask(), end: twin.end };
}

function byNode() {
  const openAll = async (target) => {
    const paths = names(FILES).map((name) => `${target}/d/${name}`);
    const one = async () => {
      for (let path = paths.pop(); path !== undefined; path = paths.pop())
        await (await open(path, 'r+')).close();
    };
    await Promise.all(Array.from({ length: THREADS }, one));
  };
  return { run: (target) => timed(() => openAll(target)), end() {} };
}

async function copyUpRow(bench, on, make) {
  const room = makeRoom(bench, on, FILES);
  const { run, end } = make(bench, room);
  const copyUp = (overlay) => timed(() => overlay.copyUp('d', { recursive: true, concurrency: THREADS }));
  try {
    return await interleave(
      {
        ours: { run: () => inOverlay(room, on, copyUp) },
        beside: { run: () => inOverlay(room, on, (_, target) => run(target)) },
      },
      bench.seconds,
    );
  } finally {
    end();
  }
}

async function renameRow(bench, on) {
  const room = makeRoom(bench, on, TREE);
  const script = 'cp -a d .e && sync -f .e && mv .e e && rm -r d';
  const byShell = (_, target) => timed(() => execute('sh', ['-ec', script], { cwd: target }));
  return interleave(
    {
      ours: { run: () => inOverlay(room, on, (overlay) => timed(() => overlay.rename('d', 'e'))) },
      beside: { run: () => inOverlay(room, on, byShell) },
    },
    bench.seconds,
  );
}
