// The package, as the twin's counterpart: the same row, mounted and unmounted through the public functions.
import { join } from 'node:path';
import { mountOverlay } from '../dist/index.js';

/** The options of the row's `index`th mount. */
function optionsFor(room, shape, index) {
  const { lowers = 2, writable, probe, volatile, scratch, detached } = shape;
  return {
    lower: Array.from({ length: lowers }, (_, i) => join(room, `l${i}`)),
    ...(detached ? {} : { target: join(room, `m${index}`) }),
    ...(writable
      ? { upper: join(room, `u${index}`), work: join(room, `w${index}`), checkInUse: probe === true }
      : {}),
    ...(volatile ? { volatile, removeVolatileMarker: true } : {}),
    ...(scratch ? { scratch } : {}),
  };
}

/** Mounts and unmounts all of the row's mounts at once; both halves can be had alone. */
export function makeOurs(room, shape) {
  const options = Array.from({ length: shape.count ?? 1 }, (_, index) => optionsFor(room, shape, index));
  let live = [];
  const mount = async () => {
    live = await Promise.all(options.map((one) => mountOverlay(one)));
  };
  const unmount = async () => {
    await Promise.all(live.map((one) => one.unmount()));
  };
  const one = options.length === 1 ? options[0] : undefined;
  const both = one
    ? async () => {
        const overlay = await mountOverlay(one);
        await overlay.unmount();
      }
    : async () => {
        await mount();
        await unmount();
      };
  return { mount, unmount, both };
}
