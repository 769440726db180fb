// Walks to one step of an overlay's life, in the main thread or in a worker, and ends there in one way.
// argv[2]: { step, way, signal?, listens?, options }
import { once } from 'node:events';
import { openSync, readFileSync } from 'node:fs';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { mountOverlay, planOverlay } from '../../../dist/index.js';

const spec = isMainThread ? JSON.parse(process.argv[2]) : workerData;
const { options } = spec;

const mount = () => mountOverlay(options);
// Until the native side has begun, without a turn of the event loop, in which it might settle.
const begun = async (started) => {
  started.catch(() => {});
  for (let i = 0; i < 50; i++) await undefined;
};
const steps = {
  before: () => planOverlay(options),
  mounting: async () => {
    await planOverlay(options);
    await begun(mount());
  },
  mounted: mount,
  file: async () => openSync((await mount()).path('hello')),
  cwd: async () => process.chdir((await mount()).path()),
  unmounting: async () => begun((await mount()).unmount()),
};

let alive;
const wait = () => {
  alive = setInterval(() => {}, 60_000);
};
const isMounted = () => readFileSync('/proc/self/mountinfo', 'utf8').includes(` ${options.target} `);

const ways = {
  return: () => {},
  exit: () => process.exit(0),
  throw: () =>
    process.nextTick(() => {
      throw new Error('thrown');
    }),
  reject: () => {
    Promise.reject(new Error('rejected'));
  },
  signal: () => {
    wait();
    process.kill(process.pid, spec.signal);
  },
};

// In a worker, one of the same ways, or these, in which the main thread acts.
const mainActs = {
  terminate: (worker) => worker.terminate(),
  'main exit': () => process.exit(0),
};

async function supervise() {
  const worker = new Worker(new URL(import.meta.url), { workerData: spec });
  worker.on('error', () => {});
  const ended = new Promise((resolve) => worker.once('exit', resolve));
  if (spec.way in mainActs) {
    await once(worker, 'message');
    await mainActs[spec.way](worker);
  }
  await ended;
  if (isMounted() && !options.keepOnExit) throw new Error('the mount outlived its worker');
}

if (spec.listens !== undefined) {
  process[spec.listens](spec.signal, () =>
    setImmediate(() => {
      console.log(`heard while ${isMounted() ? 'mounted' : 'unmounted'}`);
      clearInterval(alive);
    }),
  );
}

if (spec.inWorker && isMainThread) await supervise();
else {
  await steps[spec.step]();
  if (spec.way in mainActs) {
    wait();
    parentPort.postMessage('there');
  } else ways[spec.way]();
}
