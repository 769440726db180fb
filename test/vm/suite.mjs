// npm run test:vm: the tests that are tagged `vm`, on each kernel, two kernels at a time, and a table of what came of it.
//   -- --all            every test that speaks to the kernel, also those that take minutes in a VM
//   -- --kernel 6.12    this kernel alone; may be repeated
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { parseArgs } from 'node:util';
import { root, run } from '../../native/build/run.mjs';
import { foreign } from '../../native/build/tools.mjs';
import { markdown } from './matrix.mjs';
import { kernelNames, kernels } from './runner/kernels.mjs';

const mark = 'overlayfs-report: '; // as in report.ts
const timeScale = '20';
const seconds = { chosen: 2 * 3600, all: 6 * 3600 }; // on two idle processors a tenth of it

const { values } = parseArgs({
  options: { all: { type: 'boolean', default: false }, kernel: { type: 'string', multiple: true } },
});
const chosen = values.kernel ?? ['host', ...kernelNames.filter((name) => name !== 'host')];

build();
const files = testFiles();
// In this order, whichever ends first.
const reports = Object.fromEntries(chosen.map((name) => [name, undefined]));
// The host alone, since it is quick; then two at a time, each with one processor, so that two processors are enough.
for (const group of [['host'], ['6.1', '6.12'], ['arm64-6.1', 'arm64-6.12']]) {
  const names = group.filter((name) => chosen.includes(name));
  await Promise.all(
    names.map(async (name) => {
      reports[name] = await onKernel(name);
    }),
  );
}
for (const [name, { failed, unavailable, skipped, problem }] of Object.entries(reports)) {
  for (const test of unavailable ?? []) console.log(`${name}: unavailable: ${test}`);
  for (const test of skipped ?? []) console.log(`${name}: skipped: ${test}`);
  for (const test of failed ?? []) console.log(`${name}: FAILED: ${test}`);
  if (problem) console.log(`${name}: ${problem}`);
}
console.log(`\n${markdown(reports)}`);
mkdirSync(`${root}.build`, { recursive: true });
writeFileSync(`${root}.build/vm-report.json`, `${JSON.stringify({ all: values.all, reports }, null, 1)}\n`);
const failing = Object.values(reports).filter(({ failed, problem }) => problem || failed.length > 0);
process.exitCode = failing.length > 0 ? 1 : 0;

/** The addons that can make calls fail, since a file cannot change the addon where files share a process; and dist/. */
function build() {
  run('npm', ['run', '--silent', 'build:ts']);
  const missing = (variant) => !existsSync(`${root}.build/${variant}/overlayfs.node`);
  const wanted = chosen.some((name) => name.startsWith('arm64')) ? ['faults', 'faults-foreign'] : ['faults'];
  for (const variant of wanted.filter(missing)) run(process.execPath, ['native/build/cmake.mjs', variant]);
}

/** Where no test is tagged, vitest would still load the file. */
function testFiles() {
  const folders = ['test/unit', 'test/kernel', 'test/lifecycle', ...(values.all ? ['test/cli'] : [])];
  return folders
    .flatMap((folder) => readdirSync(root + folder, { recursive: true }).map((name) => `${folder}/${name}`))
    .filter((file) => file.endsWith('.test.ts'))
    .filter(
      (file) => values.all || /^\/\/ @module-tag vm$|tags: \[.*'vm'/m.test(readFileSync(root + file, 'utf8')),
    );
}

/** Runs the tests there; what they say is shown with the kernel's name before each line. */
async function onKernel(name) {
  const isForeign = kernels[name]?.arch === foreign.arch;
  const variables = {
    OVERLAYFS_NATIVE: `${root}.build/faults${isForeign ? '-foreign' : ''}/overlayfs.node`,
    OVERLAYFS_TEST_BUILT: '1',
    NO_COLOR: '1',
    ...(name === 'host'
      ? {}
      : { OVERLAYFS_TEST_TIME_SCALE: timeScale, OVERLAYFS_TEST_SEQUENCES: isForeign ? '10' : '20' }),
    // Emulated, each file system is as slow as the first, and it is the kernel that differs.
    ...(name === 'host' || values.all ? {} : { OVERLAYFS_TEST_ON: 'ext4' }),
  };
  const options = [
    ...['--kernel', name, '--timeout', String(values.all ? seconds.all : seconds.chosen)],
    ...(name === 'host' ? [] : ['--cpus', '1']),
    ...Object.entries(variables).flatMap(([key, value]) => ['--env', `${key}=${value}`]),
    ...(isForeign ? foreignModules().flatMap((bind) => ['--bind', bind]) : []),
  ];
  const vitest = [
    ...['node', '--import', './test/vm/patience.mjs', 'node_modules/vitest/vitest.mjs', 'run'],
    // What this machine's run, the first, has transformed to JavaScript, the guests find in node_modules.
    ...['--no-isolate', '--no-file-parallelism', '--experimental.fsModuleCache'],
    ...(values.all ? [] : ['--tags-filter', 'vm and not slow']),
    ...['--reporter=default', '--reporter=./test/vm/report.ts', ...files],
  ];
  const child = spawn(`${root}test/vm/run.mjs`, [...options, '--', ...vitest], {
    cwd: root,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let report;
  const show = (line) => {
    if (line.startsWith(mark)) report = JSON.parse(line.slice(mark.length));
    else console.log(`[${name}] ${line}`);
  };
  for (const stream of [child.stdout, child.stderr]) createInterface(stream).on('line', show);
  const status = await new Promise((resolve) =>
    child.once('close', (code, signal) => resolve(code ?? signal)),
  );
  const problem = status === 0 || report?.failed.length > 0 ? undefined : `ended with ${status}`;
  return { ...(report ?? { failed: [] }), ...(problem && { problem }) };
}

/** The native parts of vitest for the other architecture, out of npm, shown in the places of the lock file. */
function foreignModules() {
  const folder = `${root}.build/modules-${foreign.arch}`;
  const { packages } = JSON.parse(readFileSync(`${root}package-lock.json`, 'utf8'));
  const wanted = Object.entries(packages).filter(
    ([path, { cpu, os, libc }]) =>
      /rolldown|lightningcss|rollup|esbuild/.test(path) &&
      cpu?.includes(foreign.arch) &&
      os?.includes('linux') &&
      (libc?.includes('glibc') ?? true),
  );
  return wanted.map(([path, { version }]) => {
    const unpacked = `${folder}/${path}-${version}`;
    if (!existsSync(unpacked)) {
      const name = path.replace(/^.*node_modules\//, '');
      mkdirSync(`${unpacked}.partial`, { recursive: true });
      const pack = ['pack', '--silent', '--pack-destination', folder, `${name}@${version}`];
      const archive = `${folder}/${name.replace('@', '').replace('/', '-')}-${version}.tgz`;
      run('npm', pack, { stdio: ['ignore', 'ignore', 'inherit'] });
      run('tar', ['-xzf', archive, '-C', `${unpacked}.partial`, '--strip-components=1']);
      run('mv', ['-T', `${unpacked}.partial`, unpacked]);
      run('rm', [archive]);
    }
    return `${unpacked}:${root}${path}`;
  });
}
