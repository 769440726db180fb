// Who holds a mount, with 500 processes to look at: holders() beside a raw pass over the same files of /proc.
// Alone: node bench/holders.mjs [seconds]
import { execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { holders, mountOverlay } from '../dist/index.js';
import { timed } from './contenders.mjs';
import { interleave, present, ratio, summary } from './measure.mjs';
import { compileTwin, startTwin } from './raw.mjs';
import { Rooms } from './rooms.mjs';

const PROCESSES = 500;
const HOLDING = 5;

/** Ordinary processes with a few descriptors each; some have their directory on the mount. */
async function startProcesses(target) {
  const script = `for i in $(seq ${PROCESSES}); do
    [ $i -gt ${HOLDING} ] || cd ${target}; [ $i -le ${HOLDING} ] || cd /; sleep 1000 & done; echo ready; wait`;
  const shell = spawn('setsid', ['sh', '-c', script], { stdio: ['ignore', 'pipe', 'inherit'] });
  await new Promise((resolve) => shell.stdout.once('data', resolve));
  await new Promise((resolve) => setTimeout(resolve, 500)); // until all have become sleep
  return {
    async end() {
      process.kill(-shell.pid);
      await new Promise((resolve) => shell.once('exit', resolve));
    },
  };
}

/** The row, in the form of the fixed costs. */
export async function holdersRow({ scratch, rooms, seconds }) {
  const room = rooms.make('tmpfs', {});
  const target = join(room, 'm0');
  const overlay = await mountOverlay({ lower: join(room, 'l0'), scratch: true, target });
  const processes = await startProcesses(target);
  const twin = startTwin(scratch, 'holders', room, {});
  const found = (await holders(overlay)).filter(({ kind }) => kind === 'cwd').length;
  if (found < HOLDING) throw new Error(`${found} holders found, ${HOLDING} expected`);
  const samples = await interleave(
    { ours: { run: () => timed(() => holders(overlay)) }, raw: { run: () => twin.ask() } },
    seconds,
  );
  twin.end();
  await processes.end();
  await overlay.unmount();
  const times = ratio(samples.ours, samples.raw);
  return {
    name: `holders with ${PROCESSES} processes`,
    ...summary(present(samples.ours)),
    beside: 'raw: one pass over the same files of /proc',
    ratio: times,
    targets: [{ text: '≤ 1.5x raw', met: times.median <= 1.5 }],
  };
}

async function alone() {
  const scratch = mkdtempSync(join(tmpdir(), 'overlayfs-bench-'));
  process.on('exit', () => {
    execFileSync('umount', ['--recursive', '--quiet', join(scratch, 'tmpfs')]);
    rmSync(scratch, { recursive: true });
  });
  compileTwin(scratch);
  const seconds = Number(process.argv[2] ?? 4);
  const row = await holdersRow({ scratch, rooms: new Rooms(scratch), seconds });
  const spread = ({ median, q1, q3 }, unit) =>
    [median, q1, q3].map((value) => (value / unit).toFixed(2)).join(' ');
  console.log(`${row.name}: ${spread(row, 1e6)} ms; ÷ raw ${spread(row.ratio, 1)} (median, quartiles)`);
}

const here = fileURLToPath(import.meta.url);
if (process.argv[1] === here) {
  if (process.env.OVERLAYFS_BENCH_INSIDE) await alone();
  else {
    // In a mount namespace of its own, so that nothing mounted outlives it.
    const args = ['--mount', '--propagation', 'private', process.execPath, ...process.argv.slice(1)];
    const env = { ...process.env, OVERLAYFS_BENCH_INSIDE: '1' };
    spawn('unshare', args, { stdio: 'inherit', env }).on('exit', (code) => {
      process.exitCode = code ?? 1;
    });
  }
}
