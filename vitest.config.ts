import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';
import { privileged } from './test/support/needs.ts';

// A sanitized or emulated run is slower: OVERLAYFS_TEST_TIME_SCALE=5 gives everything five times as long.
const scale = Number(process.env.OVERLAYFS_TEST_TIME_SCALE ?? 1);
const timeout = 30_000 * scale;

// vitest starts each worker with this.
if (privileged) {
  process.env.OVERLAYFS_TEST_NODE = process.execPath;
  process.execPath = fileURLToPath(new URL('test/support/node-in-own-mounts.sh', import.meta.url));
}

export default defineConfig({
  test: {
    include: ['test/{unit,kernel,lifecycle,cli,types,package}/**/*.test.ts'],
    pool: 'forks',
    // The tests mount real filesystems and fork: more at once only makes them wait for each other.
    maxWorkers: 2,
    testTimeout: timeout,
    hookTimeout: timeout,
    teardownTimeout: timeout,
    coverage: { include: ['lib/**'], reportsDirectory: '.build/coverage' },
  },
});
