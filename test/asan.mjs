// npm run test:asan: the suite against the addon built with ASan and UBSan. Arguments go to vitest.
import { capture, root, runNode } from '../native/build/run.mjs';

runNode('native/build/cmake.mjs', ['asan']);
runNode('node_modules/vitest/vitest.mjs', ['run', '--exclude', 'test/package/**', ...process.argv.slice(2)], {
  env: {
    OVERLAYFS_NATIVE: `${root}.build/asan/overlayfs.node`,
    OVERLAYFS_TEST_TIME_SCALE: process.env.OVERLAYFS_TEST_TIME_SCALE ?? '4',
    // Node itself is not instrumented: the runtime must come first, and its leak check would report Node's own memory.
    LD_PRELOAD: capture('g++', ['-print-file-name=libasan.so']),
    ASAN_OPTIONS: 'detect_leaks=0',
    UBSAN_OPTIONS: 'print_stacktrace=1',
  },
});
