// Boots a kernel in qemu and runs the command there. Everything that this makes lies in a tmpfs of our own mount namespace,
// or has no name: it goes with the last process.
import { ftruncateSync, mkdirSync, openSync, statfsSync, unlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { boot } from './boot.mjs';
import { run } from './command.mjs';
import { initrd } from './guest.mjs';
import { letGo, showReadonly } from './mounts.mjs';
import { prepare } from './prepare.mjs';
import { RunnerError, say } from './say.mjs';

const diskBytes = 8 * 2 ** 30; // sparse
const leastRoom = 2 ** 30;

export async function runInVm(settings) {
  const parts = await prepare(settings.kernel);
  if (settings.prepare) return 0;
  const disk = makeDisk(parts.cache);
  await letGo(mountsNeeded(settings, parts));

  // qemu runs in a file system of its own; its /mnt has the sockets, and what the guest sees.
  const place = join(parts.tools, 'mnt');
  for (const folder of [place, join(parts.tools, 'var')]) {
    await run('mount', ['-t', 'tmpfs', '-o', 'mode=755', 'overlayfs-vm', folder]);
  }
  process.chdir(place); // a socket's path may have no more than 107 bytes
  await showShares(settings, parts);
  for (const name of ['dev', 'proc']) await run('mount', ['--rbind', `/${name}`, join(parts.tools, name)]);
  await format(parts.tools, disk);
  writeFileSync('initrd', initrd(settings, parts));
  await run('cp', [parts.image, 'kernel']);
  say(
    `Linux ${parts.release} (${settings.kernel}), ${settings.cpus} cpus, ${settings.memory} MiB, ${settings.accel}`,
  );
  return boot(settings, parts, disk);
}

/** The guest's disk: a sparse file without a name, so that it cannot be left behind. */
function makeDisk(folder) {
  const { bavail, bsize } = statfsSync(folder);
  if (bavail * bsize < leastRoom) {
    throw new RunnerError(`no room for the guest's disk: ${folder} has ${(bavail * bsize) >> 20} MiB left`);
  }
  const path = join(folder, `disk-${process.hrtime.bigint()}`);
  const disk = openSync(path, 'wx+', 0o600);
  unlinkSync(path);
  ftruncateSync(disk, diskBytes);
  return disk;
}

async function format(tools, disk) {
  const mkfs = ['mkfs.ext4', '-q', '-F', '-E', 'lazy_itable_init=1,lazy_journal_init=1', '/proc/self/fd/3'];
  await run('chroot', [tools, ...mkfs], { stdio: ['ignore', 'pipe', 'pipe', disk] });
}

function mountsNeeded({ project, directory, binds }, { cache }) {
  const shown = [project, directory, ...binds.map(({ from }) => from)];
  return {
    paths: [...shown, cache, process.execPath, '/run', '/home', '/root', '/var', '/srv'],
    below: [...shown, '/usr', '/etc', '/opt', '/dev', '/proc'],
  };
}

async function showShares({ project, binds }, { tree, kernel }) {
  const shares = { kernel, project, ...Object.fromEntries(binds.map(({ from }, i) => [`bind-${i}`, from])) };
  for (const [name, from] of Object.entries({ tree: tree ?? '/', ...shares })) {
    mkdirSync(`share/${name}`, { recursive: true });
    await showReadonly(from, join(process.cwd(), 'share', name));
  }
}
