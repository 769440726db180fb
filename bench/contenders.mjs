// Who is measured: each a `run()` that does one row once and gives nanoseconds.
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { makeOurs } from './ours.mjs';
import { startTwin } from './raw.mjs';

const execute = promisify(execFile);

/** How long an asynchronous function takes, in nanoseconds. */
export async function timed(work) {
  const start = process.hrtime.bigint();
  await work();
  return Number(process.hrtime.bigint() - start);
}

const makers = {
  ours: ({ room, shape }) => {
    const { both } = makeOurs(room, shape);
    return { run: () => timed(both) };
  },
  // What the probe adds to a mount: one with it, less one without.
  oursProbe: ({ room, shape }) => {
    const checked = makeOurs(room, { ...shape, writable: true, probe: true }).both;
    const unchecked = makeOurs(room, { ...shape, writable: true }).both;
    return { run: async () => (await timed(checked)) - (await timed(unchecked)) };
  },
  raw: ({ scratch, room, shape }) => fromTwin(startTwin(scratch, 'overlay', room, shape)),
  rawProbe: ({ scratch, room, shape }) => fromTwin(startTwin(scratch, 'probe', room, shape)),
  mount: ({ scratch, room, shape }) => fromTwin(startTwin(scratch, 'mount', room, shape)),
  spawn: ({ room, shape }) => ({ every: 8, run: () => timed(() => spawnMount(room, shape)) }),
};

const fromTwin = (twin) => ({ run: () => twin.ask(), end: twin.end });

async function spawnMount(room, { lowers = 2, writable }) {
  const lower = Array.from({ length: lowers }, (_, i) => join(room, `l${i}`)).join(':');
  const upper = writable ? `,upperdir=${join(room, 'u0')},workdir=${join(room, 'w0')}` : '';
  const target = join(room, 'm0');
  await execute('mount', ['-t', 'overlay', 'overlay', '-o', `lowerdir=${lower}${upper}`, target]);
  await execute('umount', [target]);
}

/** The contenders named, ready to run in one room. */
export function makeContenders(names, place) {
  return Object.fromEntries(
    Object.entries(names).map(([column, maker]) => [column, { every: 1, end() {}, ...makers[maker](place) }]),
  );
}
