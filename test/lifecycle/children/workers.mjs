// Many workers at once, each mounting and unmounting. argv[2]: { rounds, terminate, layers: one set for each worker }.
// With `terminate` the main thread ends each of them at some moment of its own. Prints which of our descriptors are left open.
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { mountOverlay } from '../../../dist/index.js';
import { openInAnyThread } from './descriptors.mjs';

async function work({ lower, upper, work, target }) {
  for (let i = 0; i < 10; i++) {
    const [attached, view] = await Promise.all([
      mountOverlay({ lower, upper, work, target }),
      mountOverlay({ lower, scratch: true }),
    ]);
    if (i === 0) parentPort.postMessage('mounted');
    await (await view.open('hello')).close();
    await Promise.all([attached.unmount(), view.unmount()]);
  }
}

async function supervise(layers, terminate) {
  const worker = new Worker(new URL(import.meta.url), { workerData: layers });
  const ended = once(worker, 'exit');
  if (terminate) {
    if (Math.random() < 0.5) await Promise.race([once(worker, 'message'), ended]);
    await sleep(Math.random() * 60);
    await worker.terminate();
  }
  const [code] = await ended;
  if (code !== 0 && !terminate) throw new Error(`a worker ended with ${code}`);
}

if (isMainThread) {
  const { rounds, terminate, layers } = JSON.parse(process.argv[2]);
  for (let i = 0; i < rounds; i++) await Promise.all(layers.map((one) => supervise(one, terminate)));
  console.log(JSON.stringify(openInAnyThread()));
} else {
  await work(workerData);
}
