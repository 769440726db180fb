// The smoke test of `npm run verify`: on each kernel what smoke-job.mjs asks. Where a kernel or qemu cannot be had, that is
// said aloud; a wrong answer is a failure, and so is a VM that fails twice.
import { spawn } from 'node:child_process';
import { text } from 'node:stream/consumers';
import { root } from '../../native/build/run.mjs';
import { foreign } from '../../native/build/tools.mjs';
import { host, kernelNames, kernels } from './runner/kernels.mjs';

const expected = {
  6.1: { rung: 'mount', detached: 'ERR_OVERLAY_NO_DETACHED' },
  6.12: { rung: 'layer-names', detached: 'from the lower' },
};

// Two lanes, each VM with one processor: two processors are used.
const waiting = [...kernelNames];
const outcomes = [];
const lane = async () => {
  for (let name = waiting.shift(); name !== undefined; name = waiting.shift())
    outcomes.push(await timed(name));
};
await Promise.all([lane(), lane()]);
process.exitCode = outcomes.some(({ wrong }) => wrong) ? 1 : 0;

async function timed(name) {
  const start = performance.now();
  const outcome = await smoke(name);
  console.log(`${name}: ${outcome.said} (${((performance.now() - start) / 1000).toFixed(1)} s)`);
  return outcome;
}

async function smoke(name) {
  const prepared = await runner(['--kernel', name, '--prepare']);
  if (prepared.status !== 0) return skipped(name, prepared.errors);
  const prebuilt = kernels[name]?.arch === foreign.arch ? foreign.arch : process.arch;
  const addon = `${root}prebuilds/linux-${prebuilt}/overlayfs.glibc.node`;
  const job = ['node', 'test/vm/smoke-job.mjs'];
  const timeout = ['--timeout', '600', ...(name === host ? [] : ['--cpus', '1'])];
  const ask = () =>
    runner(['--kernel', name, ...timeout, '--env', `OVERLAYFS_NATIVE=${addon}`, '--', ...job]);
  const first = await ask();
  // The VM's own failure: once may be this machine's load, but not twice.
  const { status, out, errors } = first.status === 125 ? await ask() : first;
  if (status !== 0) return { wrong: true, said: `FAILED (exit ${status})\n${out}${errors}` };
  const answer = JSON.parse(out);
  const { rung = answer.rung, detached = 'from the lower' } = expected[name.replace('arm64-', '')] ?? {};
  const right =
    answer.rung === rung &&
    answer.detached === detached &&
    answer.whiteout &&
    answer.read === 'from the lower' &&
    answer.arch === prebuilt;
  return { wrong: !right, said: `${right ? 'ok' : 'FAILED'} ${out.trim()}` };
}

function skipped(name, reason) {
  console.warn(`SKIPPED: nothing was proved on ${name}:\n${reason}`);
  return { wrong: false, said: 'SKIPPED' };
}

async function runner(args) {
  const child = spawn(`${root}test/vm/run.mjs`, args, { cwd: root, stdio: ['ignore', 'pipe', 'pipe'] });
  const [out, errors, status] = await Promise.all([
    text(child.stdout),
    text(child.stderr),
    new Promise((resolve) => child.once('close', resolve)),
  ]);
  return { status, out, errors };
}
