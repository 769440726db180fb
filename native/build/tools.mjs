// The Debian packages that building, linting and testing need, each recognised by a program or file that it brings.
import { existsSync, readFileSync } from 'node:fs';
import { delimiter } from 'node:path';
import { attempt, capture } from './run.mjs';

/** The architecture that this machine is not: its prebuilt binary is cross-compiled. */
export const foreign =
  process.arch === 'arm64'
    ? { arch: 'x64', prefix: 'x86_64-linux-gnu-', package: 'g++-x86-64-linux-gnu' }
    : { arch: 'arm64', prefix: 'aarch64-linux-gnu-', package: 'g++-aarch64-linux-gnu' };

const clangMajor = capture('clang', ['-dumpversion'])?.split('.')[0] ?? '14';
export const clangRuntime = `libclang-rt-${clangMajor}-dev`;

const probes = {
  'g++': () => onPath('g++'),
  python3: () => onPath('python3'),
  make: () => onPath('make'),
  cmake: () => onPath('cmake'),
  clang: () => onPath('clang++'),
  'clang-tidy': () => onPath('clang-tidy'),
  'clang-format': () => onPath('clang-format'),
  [clangRuntime]: () => existsSync(`${capture('clang', ['-print-runtime-dir'])}/libclang_rt.fuzzer-x86_64.a`),
  [foreign.package]: () => onPath(`${foreign.prefix}g++`),
  'qemu-user-static': () => onPath('qemu-aarch64-static'),
  xfsprogs: () => onPath('mkfs.xfs'),
  'btrfs-progs': () => onPath('mkfs.btrfs'),
  e2fsprogs: () => onPath('mkfs.ext4'),
  'util-linux': () => onPath('losetup'),
  attr: () => onPath('setfattr'),
  'docker.io': () => onPath('dockerd') && existsSync('/usr/bin/docker'),
  podman: () => onPath('podman'),
  runc: () => onPath('runc'),
  'busybox-static': () => staticBusybox(),
};
export const everyPackage = Object.keys(probes);

const peers = { containerd: () => onPath('ctr'), rsync: () => onPath('rsync') };
/** What the benchmark compares with. */
export const peerPackages = [
  ...['docker.io', 'podman', 'runc', 'busybox-static', 'attr'],
  ...Object.keys(peers),
];

/** Those of these packages whose programs are not here. */
export const missingPackages = (packages) => packages.filter((name) => !{ ...probes, ...peers }[name]());

/** Ends the process, naming the one apt line that helps, if a package is missing; with `install`, runs that line first. */
export function requirePackages(packages, { install = false } = {}) {
  if (install && missingPackages(packages).length > 0) aptInstall(missingPackages(packages));
  const missing = missingPackages(packages);
  if (missing.length === 0) return;
  console.error(
    `Missing Debian packages. To install them:\n\n  apt-get install -y --no-install-recommends ${missing.join(' ')}\n`,
  );
  process.exit(1);
}

function aptInstall(packages) {
  const sudo = process.getuid() !== 0 && onPath('sudo') ? ['sudo'] : [];
  const apt = (...args) => {
    const [command, ...rest] = [...sudo, 'apt-get', ...args];
    return attempt(command, rest, { env: { DEBIAN_FRONTEND: 'noninteractive' } });
  };
  apt('update');
  apt('install', '-y', '--no-install-recommends', ...packages);
}

// mkfs and losetup are in sbin, which is not on an ordinary user's PATH.
function onPath(program) {
  const folders = [...(process.env.PATH ?? '').split(delimiter), '/usr/sbin', '/sbin'];
  return folders.some((folder) => existsSync(`${folder}/${program}`));
}

// The package `busybox` brings one of the same name that needs libraries, which a container of nothing else has not.
function staticBusybox() {
  return existsSync('/bin/busybox') && !readFileSync('/bin/busybox').includes('/ld-linux');
}
