// Does an unrelated fs.promises.stat() wait for our unmounts? The same call with nothing in flight, with 200 of our
// unmounts in flight, and with 200 unmounts of another process in flight: what is left between the last two is ours.
import { stat } from 'node:fs/promises';
import { setImmediate as turn } from 'node:timers/promises';
import { timed } from './contenders.mjs';
import { quantile } from './measure.mjs';
import { makeOurs } from './ours.mjs';
import { startTwin } from './raw.mjs';

const COUNT = 200;

/** Stat after stat until `ended`, once the unmounts have been handed over. */
async function statsUntil(ended, samples) {
  let going = true;
  ended.finally(() => {
    going = false;
  });
  await turn();
  while (going) samples.push(await timed(() => stat('/')));
  await ended;
}

async function measureOn(fileSystem, { scratch, rooms, seconds }) {
  const shape = { count: COUNT, ...(fileSystem === 'tmpfs' ? {} : { writable: true }) };
  const room = rooms.make(fileSystem, shape);
  const ours = makeOurs(room, shape);
  const twin = startTwin(scratch, 'overlay', room, shape);
  const samples = { idle: [], ours: [], elsewhere: [] };
  const end = performance.now() + seconds * 1000;
  for (let round = 0; round < 4 || performance.now() < end; round++) {
    if (round === 1) for (const values of Object.values(samples)) values.length = 0; // the first warms up
    await ours.mount();
    await statsUntil(ours.unmount(), samples.ours);
    await twin.ask('mount');
    await statsUntil(twin.ask('unmount'), samples.elsewhere);
    for (let i = 0; i < COUNT; i++) samples.idle.push(await timed(() => stat('/')));
  }
  twin.end();
  const idle = quantile(samples.idle, 0.5);
  const facts = (name, values, ...targets) => ({
    name,
    median: quantile(values, 0.5),
    p99: quantile(values, 0.99),
    count: values.length,
    targets,
  });
  const notSlower = { text: '≤ 1.1x idle', met: quantile(samples.ours, 0.5) <= 1.1 * idle };
  return {
    on: fileSystem,
    rows: [
      facts('nothing in flight', samples.idle),
      facts(`${COUNT} of our unmounts in flight`, samples.ours, notSlower),
      facts(`${COUNT} unmounts of another process in flight`, samples.elsewhere),
    ],
  };
}

/** The stat's latencies, in nanoseconds, on tmpfs (read-only overlays) and ext4 (writable ones). */
export async function statInFlight(bench) {
  return [await measureOn('tmpfs', bench), await measureOn('ext4', bench)];
}
