// npm run docs:kernels: writes docs/kernels.md from what support() answers on each kernel, and from the last test:vm.
import { spawn } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { text } from 'node:stream/consumers';
import { root, run } from '../../native/build/run.mjs';
import { kernelFeatures } from './kernel-features.mjs';
import { markdown } from './matrix.mjs';
import { host, kernelNames } from './runner/kernels.mjs';

const page = `${root}docs/kernels.md`;
const probes = ['userXattr', 'trustedXattr', 'whiteout', 'renameWhiteout', 'tmpfile', 'fileHandles'];

run('npm', ['run', '--silent', 'build:ts']);
const answers = {};
for (const name of kernelNames) answers[name] = await ask(name);
writeFileSync(page, render());

async function ask(name) {
  const foreign = name.startsWith('arm64');
  const addon = `${root}prebuilds/linux-${foreign ? 'arm64' : process.arch}/overlayfs.glibc.node`;
  const args = [
    '--kernel',
    name,
    '--env',
    `OVERLAYFS_NATIVE=${addon}`,
    '--',
    'node',
    'test/vm/kernels-job.mjs',
  ];
  const child = spawn(`${root}test/vm/run.mjs`, args, { cwd: root, stdio: ['ignore', 'pipe', 'inherit'] });
  const out = await text(child.stdout);
  if (out === '') throw new Error(`${name} did not answer`);
  return JSON.parse(out);
}

function render() {
  const names = kernelNames;
  const column = (of) => names.map((name) => (of(answers[name]) ? 'yes' : '–'));
  const features = Object.entries(answers[host].features).map(([feature, { since }]) => {
    const { what, use, without } = kernelFeatures[feature];
    return [what, since ?? '', use, without, ...column(({ features: all }) => all[feature].ok)];
  });
  const rungs = Object.entries(answers[host].rungs).map(([rung, { since }]) => [
    `\`${rung}\``,
    since ?? '',
    ...column(({ rungs: all }) => all[rung].ok),
  ]);
  const options = Object.entries(answers[host].options).flatMap(([key, values]) =>
    Object.keys(values).map((value) => [
      `\`${value === '' ? key : `${key}=${value}`}\``,
      ...column(({ options: all }) => all[key][value].ok),
    ]),
  );
  const onTmpfs = probes.map((probe) => [probe, ...column(({ upper }) => upper[probe].ok)]);
  const kernels = names.map((name) => [
    name,
    answers[name].kernel.release,
    /Debian (\S+)/.exec(answers[name].version)?.[1] ?? '–',
    name.startsWith('arm64') ? 'arm64' : process.arch,
  ]);
  return `# Kernels

Written by \`npm run docs:kernels\` from what \`support()\` found by trying on each kernel (Debian's, in a VM), and on the
machine that it was written on. The versions are for orientation: the package asks the kernel.

${table(['runner', 'kernel', 'Debian package', 'architecture'], kernels)}
## Features

${table(['feature', 'since', 'used for', 'without it', ...names], features)}
## The ladder

The ways to hand an overlay to the kernel. A plain mount takes the first; \`joined-names\` is for detached views.

${table(['rung', 'since', ...names], rungs)}
## Options

What each kernel takes. Before Linux 6.5 nothing is refused until the mount: each was tried on an overlay that was thrown away.

${table(['option', ...names], options)}
## A tmpfs as upper

${table(['what an upper needs', ...names], onTmpfs)}
## The tests

${matrix()}`;
}

/** Of the last \`npm run test:vm\` here; else as the page has it. */
function matrix() {
  const report = `${root}.build/vm-report.json`;
  if (existsSync(report)) {
    const { all, reports } = JSON.parse(readFileSync(report, 'utf8'));
    const which = all ? 'Every test that speaks to the kernel' : 'The tests that are tagged `vm`';
    return `${which}, under emulation (TCG), on each kernel. "Unavailable" is what a probe showed that the kernel has not.\n\n${markdown(reports)}`;
  }
  const [, before] = existsSync(page) ? readFileSync(page, 'utf8').split('## The tests\n\n') : [];
  return before ?? 'Not run yet: `npm run test:vm`.\n';
}

function table(head, rows) {
  return [head, head.map(() => '---'), ...rows].map((row) => `| ${row.join(' | ')} |\n`).join('');
}
