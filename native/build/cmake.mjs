// Developer builds through cmake-js, each in its own .build/<variant>:
//   asan       the addon with ASan, UBSan and the fault plan
//   faults     the addon with the fault plan: tests make system calls fail with it
//   faults-foreign   the same, cross-compiled for the architecture that this machine is not: for tests in a VM
//   fuzz       libFuzzer programs over native/core, one for each file in native/fuzz
//   database   nothing is compiled: compile_commands.json for clang-tidy and editors
// Twenty files are compiled as one, in a fifth of the time: the headers cost more than the code. That also tells when two files
// give different things one name, of which the linker would take either.
import { availableParallelism } from 'node:os';
import { nativeEnvironment } from './headers.mjs';
import { root, run, tool } from './run.mjs';
import { clangRuntime, foreign, requirePackages } from './tools.mjs';

const cross = {
  CMAKE_SYSTEM_NAME: 'Linux',
  CMAKE_SYSTEM_PROCESSOR: foreign.prefix.split('-')[0],
  CMAKE_CXX_COMPILER: `${foreign.prefix}g++`,
};
const together = { CMAKE_UNITY_BUILD: 'ON', CMAKE_UNITY_BUILD_BATCH_SIZE: '20' };
const clang = { CMAKE_CXX_COMPILER: 'clang++' };
const variants = {
  asan: { OVERLAYFS_SANITIZE: 'ON', OVERLAYFS_FAULTS: 'ON', ...together },
  faults: { OVERLAYFS_FAULTS: 'ON', ...together },
  'faults-foreign': { OVERLAYFS_FAULTS: 'ON', ...cross, ...together },
  fuzz: { OVERLAYFS_SANITIZE: 'ON', OVERLAYFS_FUZZ: 'ON', ...clang, ...together },
  database: { OVERLAYFS_FAULTS: 'ON', OVERLAYFS_FUZZ: 'ON', ...clang },
};

const name = process.argv[2];
const options = variants[name];
if (!options) {
  console.error(`usage: node native/build/cmake.mjs ${Object.keys(variants).join('|')}`);
  process.exit(2);
}

const compilers = { 'clang++': ['clang', clangRuntime], [cross.CMAKE_CXX_COMPILER]: [foreign.package] };
requirePackages(['g++', 'make', 'cmake', ...(compilers[options.CMAKE_CXX_COMPILER] ?? [])]);
const place = ['-d', 'native', '--out', `${root}.build/${name}`, '-B', 'RelWithDebInfo', '--prefer-make'];
const pace = ['--parallel', String(availableParallelism()), '--log-level', 'warn'];
const settings = Object.entries(options).map(([key, value]) => `--CD${key}=${value}`);
const cmake = (step) =>
  run(tool('cmake-js'), [step, ...place, ...pace, ...settings], { env: nativeEnvironment() });

cmake('configure');
if (name !== 'database') cmake('build');
