import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';
import { privileged } from './test/support/privileged.ts';

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
    include: ['test/{unit,kernel,lifecycle,cli,types,package,peers}/**/*.test.ts'],
    tags: [
      {
        name: 'vm',
        description:
          'runs on other kernels too, by `npm run test:vm`: with few child processes, they cost 50 times as much',
      },
      {
        name: 'slow',
        description: 'takes minutes in a VM: there only by `npm run test:vm -- --all`',
        timeout: 2 * timeout,
      },
    ],
    pool: 'forks',
    // The tests mount real filesystems and fork: more at once only makes them wait for each other.
    maxWorkers: 2,
    testTimeout: timeout,
    hookTimeout: timeout,
    teardownTimeout: timeout,
    coverage: { include: ['lib/**'], reportsDirectory: '.build/coverage' },
  },
});
