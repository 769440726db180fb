// npm run test:nodes: the suite on newer Node.js versions, out of npm's node-linux-… packages, with the one prebuilt addon.
//   -- --smoke    only a mount, a whiteout and a detached view on each, for `npm run verify`
import { readdirSync, readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { nodeFromNpm } from '../native/build/headers.mjs';
import { attempt, capture, root } from '../native/build/run.mjs';

const majors = [22, 24, 26];
const { smoke } = parseArgs({ options: { smoke: { type: 'boolean', default: false } } }).values;
const addon = { OVERLAYFS_NATIVE: `${root}prebuilds/linux-${process.arch}/overlayfs.glibc.node` };

let failed = 0;
for (const major of majors) {
  const node = fetchNode(major);
  if (node === undefined && smoke) {
    console.warn(
      `SKIPPED: nothing was proved on Node.js ${major}: npm has no node-linux-${process.arch} for us`,
    );
  } else if (node === undefined || !(smoke ? runSmoke(node) : runSuite(node))) {
    console.error(`Node.js ${major}: FAILED`);
    failed++;
  }
}
process.exitCode = failed > 0 ? 1 : 0;

function fetchNode(major) {
  const name = `node-linux-${process.arch}`;
  const versions = capture('npm', ['view', `${name}@${major}`, 'version', '--json']);
  const version = versions && [JSON.parse(versions)].flat().sort(byNumbers).at(-1);
  const prefix = version && nodeFromNpm(process.arch, version, 'bin');
  return prefix && `${prefix}/bin/node`;
}

function byNumbers(a, b) {
  return a.localeCompare(b, 'en', { numeric: true });
}

function runSmoke(node) {
  return attempt(node, ['test/vm/smoke-job.mjs'], { env: addon }) === 0;
}

// What makes calls fail has an addon of its own; it is a build of the same sources.
function runSuite(node) {
  const files = readdirSync(`${root}test`, { recursive: true })
    .filter((name) => name.endsWith('.test.ts'))
    .map((name) => `test/${name}`);
  const withFaults = files.filter((file) => readFileSync(root + file, 'utf8').includes('support/faults.ts'));
  const others = files.filter((file) => !withFaults.includes(file));
  const vitest = (chosen, env) =>
    attempt(node, ['node_modules/vitest/vitest.mjs', 'run', ...chosen], { env }) === 0;
  console.log(`\n== ${capture(node, ['--version'])}`);
  const both = [vitest(others, addon), vitest(withFaults, {})];
  return both.every(Boolean);
}
