// What looks at overlays without making one, and the command line.
import { join } from 'node:path';
import { doctor, listOverlays } from '../dist/index.js';
import { artefacts } from './artefacts.mjs';
import { changesRows } from './changes.mjs';
import { cliRow } from './cli.mjs';
import { timed } from './contenders.mjs';
import { copyUpRows } from './copy-up.mjs';
import { holdersRow, PROCESSES } from './holders.mjs';
import { interleave, present, ratio, summary } from './measure.mjs';
import { mountedRows } from './mounted.mjs';
import { makeOurs } from './ours.mjs';
import { startTwin } from './raw.mjs';
import { storeRows } from './store.mjs';
import { storePeerRows } from './store-peers.mjs';

const OVERLAYS = 1000;
const LOWERS = 500;

/** Every row: `measure` gives the samples of ours and of what is beside it. */
export const inspections = [
  {
    name: `listOverlays(), ${OVERLAYS} mounted`,
    besideName: 'raw: listmount(2), statmount(2) of each',
    bound: 2,
    measure: listRow,
  },
  {
    name: `doctor(), ${LOWERS} lowers, upper, work`,
    besideName: 'raw: the same system calls',
    bound: 1.5,
    measure: doctorRow,
  },
  {
    name: `holders(), ${PROCESSES} processes`,
    besideName: 'raw: one pass over the same files of /proc',
    bound: 1.5,
    measure: holdersRow,
  },
  ...artefacts,
  ...mountedRows,
  { name: 'overlayfs mount, start to mounted', besideName: 'node -e 0', bound: 2.5, measure: cliRow },
  ...copyUpRows,
  ...changesRows,
  ...storeRows,
  ...storePeerRows,
];

/** Measures one, with its figures in nanoseconds. */
export async function measureInspection({ name, besideName, bound, measure }, bench) {
  const { ours, beside } = await measure(bench);
  const times = ratio(ours, beside);
  return {
    name,
    ours: summary(present(ours)),
    besideName,
    beside: summary(present(beside)),
    ratio: times,
    targets: [{ text: `≤ ${bound}x`, met: times.median <= bound }],
  };
}

async function besideTwin(work, { scratch, seconds }, verb, room, shape) {
  const twin = startTwin(scratch, verb, room, shape);
  try {
    return await interleave({ ours: { run: () => timed(work) }, beside: { run: () => twin.ask() } }, seconds);
  } finally {
    twin.end();
  }
}

async function listRow(bench) {
  const room = bench.rooms.make('tmpfs', { count: OVERLAYS });
  const overlays = makeOurs(room, { count: OVERLAYS });
  await overlays.mount();
  try {
    const { length } = await listOverlays();
    if (length < OVERLAYS) throw new Error(`${length} overlays found, ${OVERLAYS} expected`);
    return await besideTwin(listOverlays, bench, 'list', room, {});
  } finally {
    await overlays.unmount();
  }
}

async function doctorRow(bench) {
  const shape = { lowers: LOWERS };
  const room = bench.rooms.make('tmpfs', shape);
  const lower = Array.from({ length: LOWERS }, (_, i) => join(room, `l${i}`));
  const options = { lower, upper: join(room, 'u0'), work: join(room, 'w0') };
  const errors = (await doctor(options)).filter(({ severity }) => severity === 'error');
  if (errors.length > 0) throw new Error(errors[0].detail);
  return besideTwin(() => doctor(options), bench, 'doctor', room, shape);
}
