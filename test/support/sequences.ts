/**
 * How many random sequences a property is tried with, and which. With fast-check a seed says which, and a path which of
 * those, or of what they were shrunk to: both are printed with a failure, and can be asked for again.
 */

const { OVERLAYFS_TEST_SEED: asked = '1', OVERLAYFS_TEST_PATH: path } = process.env;

/** As many as usual; fewer where OVERLAYFS_TEST_SEQUENCES says so, as it does in a VM. */
export function sequences(usual: number): number {
  return Math.min(usual, Number(process.env.OVERLAYFS_TEST_SEQUENCES ?? usual));
}

/** Of each kind its share of the usual number; OVERLAYFS_TEST_RUNS of each where it is set, as by `npm run test:oracle`. */
export function oracleRuns(usual: number, kinds: number): number {
  return Number(process.env.OVERLAYFS_TEST_RUNS ?? Math.ceil(sequences(usual) / kinds));
}

/**
 * The seed of this run: always the same, so that a change is judged by what it changes; OVERLAYFS_TEST_SEED is another to
 * replay, or `random`. OVERLAYFS_TEST_PATH goes straight to one case.
 */
export const replay = {
  seed: asked === 'random' ? Date.now() % 2 ** 31 : Number(asked),
  ...(path === undefined ? {} : { path }),
};
