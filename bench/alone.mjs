// A measurement that can also be run by itself, in a mount namespace of its own.
import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { present, ratio, summary } from './measure.mjs';
import { compileTwin } from './raw.mjs';
import { Rooms } from './rooms.mjs';

/** Runs `measure` if the module at `url` is the program: `node <module> [seconds]`. */
export async function alone(url, measure) {
  if (process.argv[1] !== fileURLToPath(url)) return;
  if (process.env.OVERLAYFS_BENCH_INSIDE === undefined) {
    const args = ['--mount', '--propagation', 'private', process.execPath, ...process.argv.slice(1)];
    const env = { ...process.env, OVERLAYFS_BENCH_INSIDE: '1' };
    spawn('unshare', args, { stdio: 'inherit', env }).on('exit', (code) => {
      process.exitCode = code ?? 1;
    });
    return;
  }
  const scratch = mkdtempSync(join(tmpdir(), 'overlayfs-bench-'));
  process.on('exit', () => {
    for (const name of readdirSync(scratch))
      spawnSync('umount', ['--recursive', '--lazy', '--quiet', join(scratch, name)], { stdio: 'ignore' });
    rmSync(scratch, { recursive: true });
  });
  compileTwin(scratch);
  await measure({ scratch, rooms: new Rooms(scratch), seconds: Number(process.argv[2] ?? 4) });
}

/** One line for ours, and one ratio for everything that is beside it. */
export function print(name, { ours, ...others }) {
  const spread = ({ median, q1, q3 }, unit) =>
    [median, q1, q3].map((value) => (value / unit).toFixed(2)).join(' ');
  console.log(`${name}: ${spread(summary(present(ours)), 1e6)} ms (median, quartiles)`);
  for (const [other, values] of Object.entries(others))
    console.log(`  ÷ ${other}: ${spread(ratio(ours, values), 1)}`);
}
