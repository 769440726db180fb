// What an upper changes, told to JavaScript: beside a raw twin that makes the same system calls on as many threads, and
// beside rsync(1), which compares both trees. Alone: node bench/changes.mjs [seconds] [part of a row's name]
import { execFile, execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { changes, mountOverlay } from '../dist/index.js';
import { alone, print } from './alone.mjs';
import { timed } from './contenders.mjs';
import { interleave } from './measure.mjs';
import { startTwin } from './raw.mjs';

const execute = promisify(execFile);
const THOUSAND = 1000;
const HUNDRED_THOUSAND = 100_000;
const MILLION = 1_000_000;
const count = (number) => number.toLocaleString('en');

/** Every change with its kind and path, one by one. */
async function oneByOne(stream) {
  let told = 0;
  for await (const { kind, path } of stream) if (kind !== undefined && path !== '') told++;
  return told;
}

async function byBatch(stream) {
  let told = 0;
  for await (const batch of stream.batches()) {
    for (const { kind, path } of batch) if (kind !== undefined && path !== '') told++;
  }
  return told;
}

// Made through a mount, so that the upper is as the kernel leaves it; once for all rows that read the same.
const ready = new Map();
function layers(bench, on, shape) {
  const key = JSON.stringify([on, shape]);
  if (!ready.has(key)) ready.set(key, makeLayers(bench, on, shape));
  return ready.get(key);
}

async function makeLayers({ scratch, rooms }, on, shape) {
  const room = rooms.make(on, { lowers: 1 });
  const [lower, upper, work, target] = ['l0', 'u0', 'w0', 'm0'].map((name) => join(room, name));
  const does = async (verb) => {
    const twin = startTwin(scratch, verb, room, shape);
    await twin.ask('mount').finally(twin.end);
  };
  await does('changes-lower');
  const overlay = await mountOverlay({ lower, upper, work, target, volatile: true });
  await does('changes-made');
  await overlay.unmount({ syncVolatile: true });
  return { room, stack: { lower, upper, work }, target };
}

const row = (name, bound, what) => ({
  name,
  besideName: 'raw: the same system calls, as many threads',
  bound,
  measure: (bench) => measureRow(bench, what),
});

async function measureRow(bench, { on, shape, read, renames, threads }) {
  const { room, stack } = await layers(bench, on, shape);
  const twin = startTwin(bench.scratch, 'changes', room, { threads, ...(renames ? { renames } : {}) });
  const ours = async () => {
    const told = await read(changes(stack, { renames, threads }));
    if (told !== shape.changes) throw new Error(`${told} changes told, ${shape.changes} expected`);
  };
  try {
    const contenders = { ours: { run: () => timed(ours) }, beside: { run: () => twin.ask('mount') } };
    return await interleave(contenders, bench.seconds, 3, shape.changes === MILLION);
  } finally {
    twin.end();
  }
}

const everything = (changed, on, { read, renames = false, threads, bound }) => {
  const how = [
    ...(read === byBatch ? ['batches()'] : []),
    on,
    ...(renames ? ['with renames'] : []),
    ...(threads > 1 ? [`${threads} threads`] : []),
  ].join(', ');
  const shape = { entries: changed, changes: changed };
  return row(`changes(), ${count(changed)}, ${how}`, bound, { on, shape, read, renames, threads });
};
const of = (changed, on) => [
  everything(changed, on, { read: oneByOne, threads: 1, bound: 1.25 }),
  everything(changed, on, { read: oneByOne, threads: 2, bound: 1.5 }),
  everything(changed, on, { read: byBatch, threads: 2, bound: 1.25 }),
  everything(changed, on, { read: byBatch, renames: true, threads: 2, bound: 1.25 }),
];

// As it is called when nothing is said, beside one walk of the upper on one thread.
const few = (files) => ({
  name: `changes(), ${count(THOUSAND)} over ${count(files)} files, tmpfs`,
  besideName: 'raw: the walk of the upper, without the search for renames',
  bound: 2,
  measure: (bench) => measureFew(bench, files),
});

async function measureFew(bench, files) {
  const { room, stack } = await layers(bench, 'tmpfs', { entries: files, changes: THOUSAND });
  const twin = startTwin(bench.scratch, 'changes', room, {});
  try {
    const contenders = {
      ours: { run: () => timed(() => oneByOne(changes(stack))) },
      beside: { run: () => twin.ask('mount') },
    };
    return await interleave(contenders, bench.seconds);
  } finally {
    twin.end();
  }
}

async function besideRsync(bench) {
  const { stack, target } = await layers(bench, 'tmpfs', { entries: HUNDRED_THOUSAND, changes: THOUSAND });
  const overlay = await mountOverlay({ ...stack, target, readonly: true });
  const [merged, lower] = [`${target}/`, `${stack.lower}/`];
  try {
    const contenders = {
      ours: { run: () => timed(() => oneByOne(changes(stack))) },
      beside: { run: () => timed(() => execute('rsync', ['-an', '--delete', merged, lower])) },
    };
    return await interleave(contenders, bench.seconds, 3);
  } finally {
    await overlay.unmount();
  }
}

const rsyncThere = ['/usr/bin/rsync', '/usr/local/bin/rsync'].some((path) => existsSync(path));
if (!rsyncThere) console.error('rsync(1) is not installed: the row beside it is left out.');

/** Every row. */
export const changesRows = [
  ...of(HUNDRED_THOUSAND, 'tmpfs'),
  ...of(HUNDRED_THOUSAND, 'ext4'),
  ...of(MILLION, 'tmpfs'),
  few(HUNDRED_THOUSAND),
  few(MILLION),
  ...(rsyncThere
    ? [
        {
          name: `changes(), ${count(THOUSAND)} over ${count(HUNDRED_THOUSAND)} files, tmpfs`,
          besideName: 'rsync -an --delete',
          bound: 0.01,
          measure: besideRsync,
        },
      ]
    : []),
];

// How far the memory of a process grows that reads every change and keeps none.
const reader = `
const [module, stack, options] = process.argv.slice(1);
const { changes } = await import(module);
const before = process.resourceUsage().maxRSS;
for await (const batch of changes(JSON.parse(stack), JSON.parse(options)).batches())
  for (const { kind, path } of batch) if (kind === path) process.exit(1);
console.log(before, process.resourceUsage().maxRSS);`;

/** The rows of the table of memory, in MiB. */
export async function changesMemory(bench) {
  const { stack } = await layers(bench, 'tmpfs', { entries: MILLION, changes: MILLION });
  const module = new URL('../dist/index.js', import.meta.url).href;
  return [false, true].map((renames) => {
    const options = JSON.stringify({ renames, threads: 2 });
    const args = ['--input-type=module', '-e', reader, '--', module, JSON.stringify(stack), options];
    const [before, after] = execFileSync(process.execPath, args, { encoding: 'utf8' }).split(' ').map(Number);
    const growth = (after - before) / 1024;
    return {
      name: `changes(), ${count(MILLION)}, ${renames ? 'with renames' : 'without renames'}`,
      before: before / 1024,
      growth,
      targets: renames ? [] : [{ text: '≤ 64 MiB', met: growth <= 64 }],
    };
  });
}

await alone(import.meta.url, async (bench) => {
  const part = process.argv[3] ?? '';
  for (const { name, besideName, measure } of changesRows)
    if (name.includes(part)) print(`${name} ÷ ${besideName}`, await measure(bench));
  if ('memory'.includes(part)) console.log(await changesMemory(bench));
});
