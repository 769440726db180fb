// npm run test:asan: the suite against the addon built with ASan and UBSan. Arguments go to vitest.
import { capture, root, run, runNode } from '../native/build/run.mjs';

runNode('native/build/cmake.mjs', ['asan']);
// The prebuilt binaries are other ones; mount(8), which has the set-user-ID bit, hands no LD_PRELOAD to its helper; and daemons
// written in Go are not for that library.
const without = ['test/package/**', 'test/peers/**', 'test/cli/mount-helper.test.ts'].flatMap((files) => [
  '--exclude',
  files,
]);
// What goes down a deep tree takes several times the stack. (Tests of how much memory is taken fail, and so does dd(1), whose
// aligned_alloc(3) the library refuses.)
const vitest = [process.execPath, 'node_modules/vitest/vitest.mjs', 'run'];
run('prlimit', [`--stack=${256 << 20}`, ...vitest, ...without, ...process.argv.slice(2)], {
  env: {
    OVERLAYFS_NATIVE: `${root}.build/asan/overlayfs.node`,
    OVERLAYFS_TEST_TIME_SCALE: process.env.OVERLAYFS_TEST_TIME_SCALE ?? '4',
    // Node itself is not instrumented: the runtime must come first, and its leak check would report Node's own memory.
    LD_PRELOAD: capture('g++', ['-print-file-name=libasan.so']),
    ASAN_OPTIONS: 'detect_leaks=0',
    UBSAN_OPTIONS: 'print_stacktrace=1',
  },
});
