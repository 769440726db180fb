// node bench/cli.mjs: `overlayfs mount` and `mount -t overlay` through our helper, from start to mounted, beside `node -e 0`.
// Needs root and a built dist/; works in a mount namespace of its own.
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const main = fileURLToPath(new URL('../dist/cli/main.js', import.meta.url));
const rounds = 40;

if (process.env.OVERLAYFS_BENCH_NAMESPACE === undefined) {
  const env = { ...process.env, OVERLAYFS_BENCH_NAMESPACE: '1' };
  const args = ['--mount', '--propagation', 'private', process.execPath, ...process.argv.slice(1)];
  process.exitCode = spawnSync('unshare', args, { stdio: 'inherit', env }).status ?? 1;
} else {
  measure();
}

function measure() {
  const scratch = mkdtempSync(join(tmpdir(), 'overlayfs-bench-'));
  run('mount', '-t', 'tmpfs', 'overlayfs-bench', scratch);
  const room = (name) => {
    const path = join(scratch, name);
    mkdirSync(path);
    return path;
  };
  const [lower, upper, work, target] = ['lower', 'upper', 'work', 'merged'].map(room);
  const string = `lowerdir=${lower},upperdir=${upper},workdir=${work}`;
  const rows = {
    'node -e 0': () => run(process.execPath, '-e', '0'),
    'overlayfs mount': () =>
      run(process.execPath, main, 'mount', '-l', lower, '-u', upper, '-w', work, target),
    'mount.overlay': () => run(process.execPath, main, 'mount.overlay', 'overlay', target, '-o', string),
    'mount -i -t overlay': () => run('mount', '-i', '-t', 'overlay', 'overlay', target, '-o', string),
  };
  const times = Object.fromEntries(Object.keys(rows).map((name) => [name, []]));
  // Interleaved, so that what else the machine does falls on all alike; the first rounds warm the caches.
  for (let round = -3; round < rounds; round++) {
    for (const [name, work_] of Object.entries(rows)) {
      const started = performance.now();
      work_();
      if (round >= 0) times[name].push(performance.now() - started);
      if (name !== 'node -e 0') run('umount', '-i', target);
    }
  }
  run('umount', scratch);
  rmdirSync(scratch);
  const base = median(times['node -e 0']);
  for (const [name, all] of Object.entries(times)) {
    const one = median(all);
    console.log(`${name.padEnd(20)} ${one.toFixed(1).padStart(6)} ms  ${(one / base).toFixed(2)}x`);
  }
}

function run(command, ...args) {
  const { status, stderr } = spawnSync(command, args, { stdio: ['ignore', 'ignore', 'pipe'] });
  if (status !== 0) throw new Error(`${command} ${args.join(' ')}: ${stderr}`);
}

function median(values) {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)];
}
