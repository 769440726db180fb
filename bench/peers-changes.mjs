// node bench/peers-changes.mjs [--install] [--write]
// What other tools say about twenty changes, right or wrong, and how long they take for 1,000 changes over 100,000 files.
//   --install  first installs their Debian packages
//   --write    puts the tables into bench/RESULTS.md
// Everything runs in mount and pid namespaces of its own: no process and no mount outlives it. There is no network.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { peerPackages, requirePackages } from '../native/build/tools.mjs';
import { quantile } from './measure.mjs';
import { cases, change, prepare } from './peers/cases.mjs';
import { isRight, truthOf } from './peers/relation.mjs';
import { tools } from './peers/tools.mjs';

const RUNS = 3;
const flags = process.argv.slice(2);
const inside = process.env.OVERLAYFS_PEERS_LAB;
if (inside === undefined) outside();
else await compare(inside);

function outside() {
  requirePackages(peerPackages, { install: flags.includes('--install') });
  const lab = mkdtempSync(join(tmpdir(), 'overlayfs-peers-'));
  const space = ['--mount', '--pid', '--fork', '--kill-child', '--mount-proc', '--propagation', 'private'];
  const mount = ['sh', '-c', 'mount -t tmpfs peers "$0" && exec "$@"', lab];
  const self = [process.execPath, fileURLToPath(import.meta.url), ...flags];
  const { status } = spawnSync('unshare', [...space, ...mount, ...self], {
    stdio: 'inherit',
    env: { ...process.env, OVERLAYFS_PEERS_LAB: lab },
  });
  rmdirSync(lab);
  process.exitCode = status ?? 1;
}

const big = `
import os, sys
for d in range(100):
    os.mkdir(f"d{d}")
    for i in range(1000): os.close(os.open(f"d{d}/f{i}", os.O_CREAT | os.O_WRONLY))`;
const bigChange = `
import os
for d in range(100):
    for i in range(10):
        if i < 4: open(f"d{d}/f{i}", "w").write("x")
        elif i < 6: os.unlink(f"d{d}/f{i}")
        else: open(f"d{d}/new{i}", "w").write("x")`;

async function compare(lab) {
  const all = tools(lab, join(lab, 'log'));
  const scanner = fileURLToPath(new URL('peers/scan.py', import.meta.url));
  const scan = (root) => JSON.parse(all.run('python3', [scanner, root]));
  const columns = [];
  try {
    for (const tool of all.each) {
      const small = await tool.make((cwd) => all.run('sh', ['-c', `touch time; ${prepare}`], { cwd }));
      const before = scan(small.merged);
      all.run('sh', ['-c', change], { cwd: small.merged });
      const truth = truthOf(before, scan(small.merged));
      for (const [name, ask] of Object.entries(tool.ask)) {
        const told = await ask({ ...small, before });
        if (flags.includes('--verbose')) console.error(name, told);
        columns.push({ name, right: cases.map(({ directory }) => isRight(told, truth, directory)) });
      }
      tool.end(small);
      const many = await tool.make((cwd) => all.run('python3', ['-c', big], { cwd }));
      const old = scan(many.merged);
      all.run('python3', ['-c', bigChange], { cwd: many.merged });
      for (const [name, ask] of Object.entries(tool.ask)) {
        columns.find((one) => one.name === name).milliseconds = await median(() =>
          ask({ ...many, before: old }),
        );
      }
      tool.end(many);
    }
  } catch (error) {
    console.error(all.said().split('\n').slice(-30).join('\n'));
    throw error;
  } finally {
    all.end();
  }
  const text = tables(columns);
  console.log(text);
  if (flags.includes('--write')) write(text);
  process.exit();
}

async function median(ask) {
  const times = [];
  for (let run = 0; run < RUNS; run++) {
    const start = performance.now();
    await ask();
    times.push(performance.now() - start);
  }
  return quantile(times, 0.5);
}

function tables(columns) {
  const line = (cells) => `| ${cells.join(' | ')} |`;
  const head = ['change', ...columns.map(({ name }) => `\`${name}\``)];
  const right = columns.map((column) => column.right.filter(Boolean).length);
  return [
    line(head),
    line(head.map(() => '---')),
    ...cases.map(({ name }, at) =>
      line([name, ...columns.map((column) => (column.right[at] ? 'yes' : '**no**'))]),
    ),
    line(['right, of twenty', ...right]),
    line([
      '1,000 changes over 100,000 files, ms',
      ...columns.map(({ milliseconds }) => milliseconds.toFixed(milliseconds < 100 ? 1 : 0)),
    ]),
  ].join('\n');
}

function write(text) {
  const file = new URL('RESULTS.md', import.meta.url);
  const page = readFileSync(file, 'utf8');
  const put = page.replace(/(<!-- peers -->\n)[\s\S]*?(<!-- \/peers -->)/, (_, a, b) => `${a}${text}\n${b}`);
  writeFileSync(file, put);
}
