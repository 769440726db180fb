// Interleaved measurement: A B C A B C …, so that what disturbs the machine disturbs all alike. A turn is two runs, of
// which the second counts.

/** The value below which `part` of the values lie. */
export function quantile(values, part) {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (sorted.length - 1) * part;
  const low = sorted[Math.floor(at)];
  return low + (sorted[Math.ceil(at)] - low) * (at - Math.floor(at));
}

/** Median and quartiles. */
export function summary(values) {
  return {
    median: quantile(values, 0.5),
    q1: quantile(values, 0.25),
    q3: quantile(values, 0.75),
    count: values.length,
  };
}

/**
 * Runs the contenders in turn for `seconds`, after a tenth of that to warm up. Gives each one's samples, one for each
 * round; a contender that takes part in every n-th round only has holes. `long`: each run takes seconds, so that what the
 * last contender left in the caches does not matter.
 */
export async function interleave(contenders, seconds, leastRounds = 5, long = false) {
  const rounds = async (time, least, keep) => {
    const end = performance.now() + time * 1000;
    for (let round = 0; round < least || performance.now() < end; round++) {
      for (const [name, { every = 1, run }] of Object.entries(contenders)) {
        if (round % every !== 0) continue;
        if (every === 1 && !long) await run(); // not counted: it brings back the caches that the last contender took
        keep(name, round, await run());
      }
    }
  };
  const samples = Object.fromEntries(Object.keys(contenders).map((name) => [name, []]));
  await rounds(seconds / 10, long ? 1 : 2, () => {});
  await rounds(seconds, leastRounds, (name, round, value) => {
    samples[name][round] = value;
  });
  return samples;
}

/** `a` ÷ `b`, round by round. */
export function ratio(a, b) {
  const pairs = [];
  b.forEach((value, round) => {
    if (a[round] !== undefined) pairs.push(a[round] / value);
  });
  return summary(pairs);
}

export const present = (samples) => samples.filter((value) => value !== undefined);
