// Makes prebuilds/linux-x64 and prebuilds/linux-arm64: one binary each for every Node with Node-API 9, on glibc, stripped.
import { createHash } from 'node:crypto';
import { copyFileSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { nativeEnvironment } from './headers.mjs';
import { root, run, tool } from './run.mjs';
import { foreign, requirePackages } from './tools.mjs';

requirePackages(['g++', 'make', 'python3', foreign.package]);

const sums = ['x64', 'arm64'].map((arch) => {
  build(arch);
  const name = `linux-${arch}/overlayfs.glibc.node`;
  const binary = readFileSync(`${root}prebuilds/${name}`);
  console.log(`prebuilds/${name}: ${Math.ceil(binary.length / 1024)} KiB`);
  return `${createHash('sha256').update(binary).digest('hex')}  ${name}\n`;
});
writeFileSync(`${root}prebuilds/SHA256SUMS`, sums.join(''));

function build(arch) {
  const prefix = arch === foreign.arch ? foreign.prefix : '';
  const stage = stagingFolder(arch);
  const target = ['--napi', '--target', '20.19.0', '--arch', arch, '--libc', 'glibc', '--tag-libc'];
  const output = ['--strip', '--strip-bin', `${prefix}strip`, '--out', root, '--cache', `${stage}/cache`];
  run(tool('prebuildify'), [...target, ...output], {
    cwd: stage,
    env: {
      ...nativeEnvironment(),
      npm_config_loglevel: 'warn',
      CC: `${prefix}gcc`,
      CXX: `${prefix}g++`,
      CXXFLAGS: `-include ${root}native/build/glibc_floor.h`,
    },
  });
}

/** node-gyp builds in ./build, where node-gyp-build would afterwards find and load a foreign binary: so not in ours. */
function stagingFolder(arch) {
  const stage = `${root}.build/prebuild-${arch}`;
  rmSync(stage, { recursive: true, force: true });
  mkdirSync(stage, { recursive: true });
  for (const file of ['package.json', 'binding.gyp']) copyFileSync(root + file, `${stage}/${file}`);
  symlinkSync(`${root}native`, `${stage}/native`);
  return stage;
}
