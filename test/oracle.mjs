// npm run test:oracle: more random stacks beside the kernel than the suite has time for, 2,016 unless OVERLAYFS_TEST_RUNS says
// how many there are to be of each configuration on each file system. Arguments go to vitest: `-- -t userxattr`.
import { runNode } from '../native/build/run.mjs';

const { OVERLAYFS_TEST_RUNS = '84', OVERLAYFS_TEST_SEED = `${Date.now() % 2 ** 31}` } = process.env;

console.log(
  `OVERLAYFS_TEST_SEED=${OVERLAYFS_TEST_SEED} OVERLAYFS_TEST_RUNS=${OVERLAYFS_TEST_RUNS} npm run test:oracle`,
);
runNode(
  'node_modules/vitest/vitest.mjs',
  ['run', 'test/kernel/changes.oracle.test.ts', ...process.argv.slice(2)],
  {
    env: { OVERLAYFS_TEST_RUNS, OVERLAYFS_TEST_SEED },
  },
);
