// Who holds a mount, with 500 processes to look at: holders() beside a raw pass over the same files of /proc.
// Alone: node bench/holders.mjs [seconds]
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { holders, mountOverlay } from '../dist/index.js';
import { alone, print } from './alone.mjs';
import { timed } from './contenders.mjs';
import { interleave } from './measure.mjs';
import { startTwin } from './raw.mjs';

export const PROCESSES = 500;
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

/** The row of holders(). */
export async function holdersRow({ scratch, rooms, seconds }) {
  const room = rooms.make('tmpfs', {});
  const target = join(room, 'm0');
  const overlay = await mountOverlay({ lower: join(room, 'l0'), scratch: true, target });
  const processes = await startProcesses(target);
  const twin = startTwin(scratch, 'holders', room, {});
  try {
    const found = (await holders(overlay)).filter(({ kind }) => kind === 'cwd').length;
    if (found < HOLDING) throw new Error(`${found} holders found, ${HOLDING} expected`);
    return await interleave(
      { ours: { run: () => timed(() => holders(overlay)) }, beside: { run: () => twin.ask() } },
      seconds,
    );
  } finally {
    twin.end();
    await processes.end();
    await overlay.unmount();
  }
}

await alone(import.meta.url, async (bench) => {
  print(`holders with ${PROCESSES} processes`, await holdersRow(bench));
});
