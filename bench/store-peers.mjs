// A container's life in a store beside the same in container engines, through their own interfaces: all on one ext4, ours with
// its default durability. Alone: node bench/store-peers.mjs [seconds] [part of a row's name]
import { alone, print } from './alone.mjs';
import { timed } from './contenders.mjs';
import { interleave } from './measure.mjs';
import { engines, shielded } from './peers/containers.mjs';
import { live, storeOf } from './store.mjs';

async function besideEngine(bench, engine, layers) {
  const { store, image, end } = await storeOf(bench, 'ext4', layers, 'syncfs');
  const lab = bench.rooms.make('ext4', { lowers: 1 });
  const unshield = shielded(lab);
  try {
    const peer = await engine.start(lab, layers);
    try {
      const contenders = {
        ours: { run: () => timed(() => live(store, image)) },
        beside: { run: () => timed(peer.run) },
      };
      return await interleave(contenders, bench.seconds, 5, true);
    } finally {
      await peer.end();
    }
  } finally {
    unshield();
    await end();
  }
}

/** Every row. */
export const storePeerRows = engines().flatMap((engine) =>
  [10, 120].map((layers) => ({
    name: `store: create, mount, unmount, remove, ${layers} layers, ext4, durable`,
    besideName: engine.name,
    bound: 1,
    measure: (bench) => besideEngine(bench, engine, layers),
  })),
);

await alone(import.meta.url, async (bench) => {
  for (const { name, besideName, measure } of storePeerRows)
    if (`${name}, ${besideName}`.includes(process.argv[3] ?? ''))
      print(`${name} ÷ ${besideName}`, await measure(bench));
});
