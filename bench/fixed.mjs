// Costs that are paid once, or on every call whatever it does.
import { execFile } from 'node:child_process';
import { stat } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { promisify } from 'node:util';
import { timed } from './contenders.mjs';
import { interleave, present, ratio, summary } from './measure.mjs';
import { startTwin } from './raw.mjs';

const addon = createRequire(import.meta.url)('../build/Release/overlayfs.node');
const library = new URL('../dist/index.js', import.meta.url);

// In a process of its own: the import, the first mount (the addon is loaded and the kernel is asked what it can do),
// and the second.
const firstTimes = (room) => `
  const times = [performance.now()];
  const { mountOverlay } = await import(${JSON.stringify(library.href)});
  times.push(performance.now());
  for (let i = 0; i < 2; i++) {
    const overlay = await mountOverlay({ lower: ['${room}/l0', '${room}/l1'], target: '${room}/m0' });
    times.push(performance.now());
    await overlay.unmount();
    times.push(performance.now());
  }
  const [start, imported, first, unmounted, second] = times;
  console.log(JSON.stringify([imported - start, first - imported, second - unmounted]));
`;

/** The rows of fixed costs, in nanoseconds. */
export async function fixedCosts({ scratch, rooms, seconds }) {
  const room = rooms.make('tmpfs', {});
  const twin = startTwin(scratch, 'handoff', room, {});
  const calls = await interleave(
    {
      crossing: { run: () => timed(() => addon.directoryFacts([])) },
      handoff: { run: () => twin.ask() },
      stat: { run: () => timed(() => stat('/')) },
    },
    seconds,
  );
  twin.end();
  const [imports, firsts, nexts] = await freshProcesses(room, Math.max(5, seconds * 3));
  const fixed = (name, values, beside) => ({
    name,
    ...summary(present(values)),
    ...(beside === undefined ? {} : { beside: beside.name, ratio: ratio(values, beside.values) }),
  });
  return [
    fixed('an empty call of the addon, awaited', calls.crossing, {
      name: 'raw: a job handed to a thread, answered by an eventfd',
      values: calls.handoff,
    }),
    fixed("fs.promises.stat('/')", calls.stat, { name: 'the empty call', values: calls.crossing }),
    fixed('first import', imports),
    fixed('first mount of a process', firsts, { name: 'its second mount', values: nexts }),
  ];
}

async function freshProcesses(room, count) {
  const columns = [[], [], []];
  for (let i = 0; i < count; i++) {
    const { stdout } = await promisify(execFile)(process.execPath, [
      '--input-type=module',
      '-e',
      firstTimes(room),
    ]);
    JSON.parse(stdout).forEach((milliseconds, column) => {
      columns[column].push(milliseconds * 1e6);
    });
  }
  return columns;
}
