// `node --import` of this file: vitest gives its worker a minute to start, and no option changes that. Under emulation, on
// a machine that has other things to do, it may take ten.
const minutes = [60_000, 90_000];
const { setTimeout: usual } = globalThis;

globalThis.setTimeout = Object.assign(
  (callback, delay, ...rest) => usual(callback, minutes.includes(delay) ? 20 * delay : delay, ...rest),
  usual,
);
