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
import { cases, prepare } from './peers/cases.mjs';
import { isRight, truthOf } from './peers/relation.mjs';
import { tools } from './peers/tools.mjs';

const RUNS = 3;
const flags = process.argv.slice(2);

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
    for (const tool of all.each) columns.push(...(await columnsOf(tool, all.run, scan)));
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

// Each case through a mount of its own, since one that a tool fails at would hide the others.
async function columnsOf(tool, run, scan) {
  const columns = Object.keys(tool.ask).map((name) => ({ name, said: [] }));
  const image = await tool.image((cwd) => run('sh', ['-c', prepare], { cwd }));
  for (const { directory, act } of cases) {
    const mount = tool.mount(image);
    const before = scan(mount.merged);
    run('sh', ['-ec', act], { cwd: join(mount.merged, directory) });
    const truth = truthOf(before, scan(mount.merged));
    for (const { name, said } of columns) {
      try {
        const told = await tool.ask[name]({ ...mount, before });
        if (flags.includes('--verbose')) console.error(name, directory, told);
        said.push(isRight(told, truth, directory) ? 'yes' : '**no**');
      } catch (error) {
        if (flags.includes('--verbose')) console.error(name, directory, error);
        said.push('**fails**');
      }
    }
    tool.end(mount);
  }
  const many = tool.mount(await tool.image((cwd) => run('python3', ['-c', big], { cwd })));
  const before = scan(many.merged);
  run('python3', ['-c', bigChange], { cwd: many.merged });
  for (const column of columns)
    column.milliseconds = await median(() => tool.ask[column.name]({ ...many, before }));
  tool.end(many);
  return columns;
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
  const right = columns.map(({ said }) => said.filter((one) => one === 'yes').length);
  return [
    line(head),
    line(head.map(() => '---')),
    ...cases.map(({ name }, at) => line([name, ...columns.map(({ said }) => said[at])])),
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

const inside = process.env.OVERLAYFS_PEERS_LAB;
if (inside === undefined) outside();
else await compare(inside);
