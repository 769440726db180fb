import { defineConfig } from 'vitest/config';

// The runner's own tests boot a dozen VMs: `npm run test:vm:runner`, beside the suite.
export default defineConfig({
  test: {
    include: ['test/vm/*.test.ts'],
    fileParallelism: false,
    testTimeout: 900_000,
    hookTimeout: 900_000,
  },
});
