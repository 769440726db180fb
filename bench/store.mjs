// Stores of layers: a container's life, a thousand containers, and what reads a whole store, beside raw twins that make the
// same system calls. Nothing is made durable. Alone: node bench/store.mjs [seconds] [part of a row's name]
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { openStore } from '../dist/store/index.js';
import { alone, print } from './alone.mjs';
import { timed } from './contenders.mjs';
import { interleave, quantile } from './measure.mjs';
import { startTwin } from './raw.mjs';

const CONTAINERS = 1000;
const HUNDRED = 100;
const CHAINS = 100; // of ten images and ten containers each
const FILES = 100_000;
const raw = 'raw: the same system calls';

/** As long as Docker's. */
const idOf = (index) => String(index).padStart(64, '0');
const containerOf = (index) => idOf(index).replace('0', 'c');

/** A store with an image of so many layers, each with one file in it. */
export async function storeOf({ rooms }, on, layers, durability = 'none') {
  const room = rooms.make(on, { lowers: 1 });
  const content = join(room, 'l0');
  const root = join(room, 'overlay2');
  const store = await openStore(root, { driver: 'overlay2', durability });
  await addImage(store, 0, layers, async (id, index) => {
    writeFileSync(join(content, `file${index}`), `${index}\n`);
    await store.apply(id, content);
    rmSync(join(content, `file${index}`));
  });
  const end = async () => {
    await store.close();
    rmSync(room, { recursive: true });
  };
  return { root, store, image: idOf(layers - 1), end };
}

async function addImage(store, from, layers, fill = async () => {}) {
  for (let i = from; i < from + layers; i++) {
    await store.create(idOf(i), { kind: 'image', ...(i === from ? {} : { parent: idOf(i - 1) }) });
    await fill(idOf(i), i);
  }
}

/** A container's life on an image. */
export async function live(store, image, id = containerOf(0)) {
  await store.create(id, { kind: 'container', parent: image });
  const overlay = await store.mount(id);
  await overlay.unmount();
  await store.remove(id);
}

async function besideTwin({ scratch, seconds }, verb, root, shape, work) {
  const twin = startTwin(scratch, verb, root, shape);
  try {
    return await interleave(
      { ours: { run: () => timed(work) }, beside: { run: () => twin.ask('mount') } },
      seconds,
    );
  } finally {
    twin.end();
  }
}

async function lifeRow(bench, on, layers) {
  const { root, store, image, end } = await storeOf(bench, on, layers);
  try {
    return await besideTwin(bench, 'store-container', root, { lowers: layers }, () => live(store, image));
  } finally {
    await end();
  }
}

// The two come from the same thousand: neighbours are those of one round.
async function manyRow(bench, on, mounted) {
  const samples = { ours: [], beside: [] };
  const deadline = performance.now() + bench.seconds * 1000;
  for (let round = -1; round < 3 || performance.now() < deadline; round++) {
    const { store, image, end } = await storeOf(bench, on, 2);
    const overlays = [];
    const begin = async (id) => {
      await store.create(id, { kind: 'container', parent: image });
      if (mounted) overlays.push(await store.mount(id));
    };
    const times = [];
    for (let i = 0; i < CONTAINERS; i++) times.push(await timed(() => begin(containerOf(i))));
    for (const overlay of overlays) await overlay.unmount();
    await end();
    if (round < 0) continue; // to warm up
    samples.beside.push(quantile(times.slice(0, HUNDRED), 0.5));
    samples.ours.push(quantile(times.slice(-HUNDRED), 0.5));
  }
  return samples;
}

// Containers as they are once they have been mounted.
async function readRow(bench, on, verb, ask) {
  const { rooms } = bench;
  const room = rooms.make(on, { lowers: 1 });
  const root = join(room, 'overlay2');
  const store = await openStore(root, { driver: 'overlay2', durability: 'none' });
  for (let chain = 0; chain < CHAINS; chain++) {
    const from = 10 * chain;
    await addImage(store, from, 10);
    for (let i = from; i < from + 10; i++) {
      await store.create(containerOf(i), { kind: 'container', parent: idOf(from + 9) });
      const overlay = await store.mount(containerOf(i));
      await overlay.unmount();
    }
  }
  try {
    return await besideTwin(bench, verb, root, { entries: 20 * CHAINS }, () => ask(store));
  } finally {
    await store.close();
    rmSync(room, { recursive: true });
  }
}

async function listed(store) {
  const { length } = await store.list();
  if (length !== 20 * CHAINS) throw new Error(`${length} layers listed`);
}

async function checked(store) {
  const [finding] = await store.check();
  if (finding !== undefined) throw new Error(finding.detail);
}

async function usageRow(bench, on) {
  const { root, store, image, end } = await storeOf(bench, on, 1);
  for (let i = 0; i < FILES; i++) {
    const directory = join(root, image, 'diff', `directory${Math.floor(i / 1000)}`);
    if (i % 1000 === 0) mkdirSync(directory);
    writeFileSync(join(directory, `file${i}`), 'x');
  }
  const measure = async () => {
    const { inodes } = await store.usage(image);
    if (inodes < FILES) throw new Error(`${inodes} inodes measured`);
  };
  try {
    return await besideTwin(bench, 'store-usage', root, { lowers: 1, entries: FILES }, measure);
  } finally {
    await end();
  }
}

const onBoth = (make) => ['tmpfs', 'ext4'].flatMap(make);

/** Every row. */
export const storeRows = [
  ...onBoth((on) =>
    [10, 120].map((layers) => ({
      name: `store: create, mount, unmount, remove, ${layers} layers, ${on}`,
      besideName: raw,
      bound: 1.5,
      measure: (bench) => lifeRow(bench, on, layers),
    })),
  ),
  ...onBoth((on) =>
    [false, true].map((mounted) => ({
      name: `store: create${mounted ? ' and mount' : ''}, the last 100 of 1,000 on one image, ${on}`,
      besideName: 'the first 100',
      bound: 1.2,
      measure: (bench) => manyRow(bench, on, mounted),
    })),
  ),
  ...onBoth((on) => [
    {
      name: `store: list(), 2,000 layers, ${on}`,
      besideName: 'raw: one pass over the same files',
      bound: 2,
      measure: (bench) => readRow(bench, on, 'store-list', listed),
    },
    {
      name: `store: check(), 2,000 layers, ${on}`,
      besideName: 'raw: one pass over the same files',
      bound: 2,
      measure: (bench) => readRow(bench, on, 'store-check', checked),
    },
    {
      name: `store: usage(), 100,000 files, ${on}`,
      besideName: 'raw: a walk over the same files',
      bound: 1.3,
      measure: (bench) => usageRow(bench, on),
    },
  ]),
];

await alone(import.meta.url, async (bench) => {
  for (const { name, besideName, measure } of storeRows)
    if (name.includes(process.argv[3] ?? '')) print(`${name} ÷ ${besideName}`, await measure(bench));
});
