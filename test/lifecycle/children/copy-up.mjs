// Ends while a copy-up is under way. argv[2]: { way, inWorker, mounted, layers }. With a worker, the main thread then sees
// whether anything is still locked, and prints which of our descriptors are open.
import { once } from 'node:events';
import { existsSync, readdirSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { copyUp, mountOverlay } from '../../../dist/index.js';
import { openInAnyThread } from './descriptors.mjs';

const spec = isMainThread ? JSON.parse(process.argv[2]) : workerData;
const { target, ...stack } = spec.layers;

function countFiles() {
  const directory = `${stack.upper}/d`;
  return existsSync(directory) ? readdirSync(directory).length : 0;
}

async function begin() {
  const overlay = spec.mounted ? await mountOverlay(spec.layers) : undefined;
  const options = { recursive: true, concurrency: 1 };
  (overlay?.copyUp('/', options) ?? copyUp(stack, '/', options)).then(
    () => {},
    () => {},
  );
  while (countFiles() < 100) await sleep(1);
}

const ways = {
  exit: () => process.exit(0),
  throw: () =>
    process.nextTick(() => {
      throw new Error('thrown');
    }),
};

if (spec.inWorker && isMainThread) {
  const worker = new Worker(new URL(import.meta.url), { workerData: spec });
  worker.on('error', () => {});
  const ended = once(worker, 'exit');
  if (spec.way === 'terminate') {
    await once(worker, 'message');
    await worker.terminate();
  }
  await ended;
  await copyUp(stack, '/'); // nothing is locked
  console.log(JSON.stringify(openInAnyThread()));
} else {
  await begin();
  if (spec.way === 'terminate') parentPort.postMessage('under way');
  else ways[spec.way]();
}
