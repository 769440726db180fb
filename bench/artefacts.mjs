// Whiteouts and overlay attributes, 10,000 in one call: ours beside the same system calls, and beside fs-xattr where it is
// installed. Alone: node bench/artefacts.mjs [seconds]
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createWhiteouts, readOverlayXattrs, removeWhiteout, writeOverlayXattrs } from '../dist/index.js';
import { alone, print } from './alone.mjs';
import { timed } from './contenders.mjs';
import { interleave } from './measure.mjs';
import { startTwin } from './raw.mjs';

const NAMES = 10_000;
const raw = 'raw: the same system calls';
const peer = 'fs-xattr, one by one, synchronous';

/** A row's `measure`: ours and what is beside it, with the directories of a room. */
function beside(on, verb, prepare) {
  return async ({ scratch, rooms, seconds }) => {
    const room = rooms.make(on, {});
    const { run } = prepare(join(room, 'u0'));
    const twin = startTwin(scratch, verb, room, {});
    try {
      const contender = { run: () => twin.ask('mount').finally(() => twin.ask('unmount')) };
      return await interleave({ ours: { run }, beside: contender }, seconds);
    } finally {
      twin.end();
    }
  };
}

function whiteouts(upper) {
  for (const name of ['ours', 'raw']) mkdirSync(join(upper, name));
  const paths = Array.from({ length: NAMES }, (_, index) => `ours/${index}`);
  return {
    run: async () => {
      const took = await timed(() => createWhiteouts(upper, paths));
      await removeWhiteout(upper, paths);
      return took;
    },
  };
}

function files(upper) {
  mkdirSync(join(upper, 'files'));
  const paths = Array.from({ length: NAMES }, (_, index) => `files/${index}`);
  for (const path of paths) writeFileSync(join(upper, path), '');
  return { paths, entries: paths.map((path) => ({ path, xattr: { kind: 'origin' } })) };
}

function setting(upper) {
  const { entries } = files(upper);
  return { run: () => timed(() => writeOverlayXattrs(upper, entries)) };
}

function getting(upper) {
  const { paths, entries } = files(upper);
  let ready;
  return {
    run: async () => {
      ready ??= writeOverlayXattrs(upper, entries);
      await ready;
      return timed(() => readOverlayXattrs(upper, paths));
    },
  };
}

// The peer reads and sets by path; ours also keeps each path inside the layer, and decodes.
async function besidePeer(verb, { rooms, seconds }) {
  const { getAttributeSync, setAttributeSync } = await import('fs-xattr');
  const upper = join(rooms.make('tmpfs', {}), 'u0');
  const { paths, entries } = files(upper);
  await writeOverlayXattrs(upper, entries);
  const whole = paths.map((path) => join(upper, path));
  const name = 'trusted.overlay.origin';
  const one = verb === 'get' ? getAttributeSync : setAttributeSync;
  const theirs = () => {
    for (const path of whole) one(path, name, '');
  };
  const ours = () => (verb === 'get' ? readOverlayXattrs(upper, paths) : writeOverlayXattrs(upper, entries));
  return interleave({ ours: { run: () => timed(ours) }, beside: { run: () => timed(theirs) } }, seconds);
}

const peerThere = await import('fs-xattr').then(
  () => true,
  () => false,
);

/** The rows. */
export const artefacts = [
  ...['tmpfs', 'ext4', 'xfs', 'btrfs'].flatMap((on) => [
    {
      name: `createWhiteouts(), ${NAMES}, ${on}`,
      besideName: raw,
      bound: 1.15,
      measure: beside(on, 'whiteouts', whiteouts),
    },
    {
      name: `writeOverlayXattrs(), ${NAMES}, ${on}`,
      besideName: raw,
      bound: 1.15,
      measure: beside(on, 'set-xattrs', setting),
    },
    {
      name: `readOverlayXattrs(), ${NAMES}, ${on}`,
      besideName: raw,
      bound: 1.15,
      measure: beside(on, 'get-xattrs', getting),
    },
  ]),
  ...(peerThere ? ['set', 'get'] : []).map((verb) => ({
    name: `${verb === 'get' ? 'read' : 'write'}OverlayXattrs(), ${NAMES}, tmpfs`,
    besideName: peer,
    bound: 1,
    measure: (bench) => besidePeer(verb, bench),
  })),
];

await alone(import.meta.url, async (bench) => {
  for (const { name, measure } of artefacts) print(name, await measure(bench));
});
