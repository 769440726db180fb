// Mounts and unmounts over and over, in every way that there is, and prints what grew: { cycles, layers }.
// Run with --expose-gc.
import { readdirSync } from 'node:fs';
import { listOverlays, mountOverlay } from '../../../dist/index.js';

const { cycles, layers } = JSON.parse(process.argv[2]);
const { lower, upper, work, target } = layers;

const unmounted = async (options) => (await mountOverlay(options)).unmount();
const refused = (options) =>
  mountOverlay(options).then(
    () => Promise.reject(new Error('it should have failed')),
    () => {},
  );
const kinds = [
  () => unmounted({ lower: [lower, upper], target }),
  () => unmounted({ lower, upper, work, target }),
  async () =>
    (await mountOverlay({ lower, upper, work, target, volatile: true })).unmount({ syncVolatile: true }),
  () => unmounted({ lower, upper, work }),
  () => unmounted({ lower, scratch: true, target: `${target}/made`, mkdirTarget: true }),
  async () => {
    const view = await mountOverlay({ lower, scratch: true });
    await view.attach(target);
    await (await view.open('hello')).close();
    await view.remount({ readonly: true });
    await view.unmount();
  },
  () => refused({ lower: [lower, '/does/not/exist'], target }),
  () => refused({ lower, upper, work, target, kernelOptions: { nonsense: true } }),
  () => refused({ lower, scratch: true, target: '/does/not/exist' }),
  async () => {
    const aborted = new AbortController();
    const mounting = refused({ lower, scratch: true, target, signal: aborted.signal });
    aborted.abort();
    await mounting;
  },
];

async function run(count) {
  for (let i = 0; i < count; i++) await kinds[i % kinds.length]();
}
function measure() {
  for (let i = 0; i < 4; i++) globalThis.gc?.();
  return {
    descriptors: readdirSync('/proc/self/fd').length,
    rss: process.memoryUsage.rss(),
  };
}

await run(cycles / 4);
const before = measure();
await run(cycles);
const after = measure();
console.log(
  JSON.stringify({
    descriptors: after.descriptors - before.descriptors,
    rss: after.rss - before.rss,
    mounted: (await listOverlays()).filter((overlay) => overlay.owner === 'own').length,
  }),
);
