// Where what has been fetched is kept, and how two runs keep out of each other's way.
import { spawn, spawnSync } from 'node:child_process';
import { accessSync, constants, existsSync, lstatSync, mkdirSync, readdirSync, renameSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { run } from './command.mjs';
import { RunnerError, say } from './say.mjs';

/** The folder, made if it is not there. With a home that cannot be written to it is one under /var/tmp. */
export function cacheFolder() {
  const named = process.env.OVERLAYFS_VM_CACHE;
  if (named) return usable(named) ?? refuse(named);
  const own = join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'overlayfs-vm');
  const found = usable(own);
  if (found !== undefined) return found;
  const other = `/var/tmp/overlayfs-vm-${process.getuid()}`;
  say(`cannot write to ${own}: using ${other}`);
  const fallback = usable(other) ?? refuse(other);
  // Anybody may make names in /var/tmp, and what lies in there is run.
  const { uid, mode } = lstatSync(fallback);
  if (uid !== process.getuid() || (mode & 0o22) !== 0) refuse(other);
  return fallback;
}

function usable(folder) {
  try {
    mkdirSync(folder, { recursive: true, mode: 0o755 });
    accessSync(folder, constants.W_OK);
    return folder;
  } catch {
    return undefined;
  }
}

function refuse(folder) {
  throw new RunnerError(`cannot keep what is fetched in ${folder}: name a folder in OVERLAYFS_VM_CACHE`);
}

/** Does the work while no other run does any in this folder. */
export async function whileLocked(folder, work) {
  const holder = spawn('flock', [join(folder, 'lock'), 'sh', '-c', 'echo locked; exec cat >/dev/null'], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  await new Promise((resolve, reject) => {
    holder.once('error', (error) => reject(new RunnerError(`cannot run flock(1): ${error.message}`)));
    holder.once('close', () => reject(new RunnerError(`cannot lock ${folder}`)));
    holder.stdout.once('data', resolve);
  });
  try {
    return await work();
  } finally {
    holder.stdin.end();
  }
}

/** A folder in the cache: made by `make` in a folder that gets its name only when it is complete. */
export async function kept(folder, name, make) {
  const complete = join(folder, name);
  if (existsSync(complete)) return complete;
  const partial = `${complete}.partial`;
  await discard(partial);
  mkdirSync(partial);
  try {
    await make(partial);
  } catch (error) {
    await discard(partial);
    throw error;
  }
  renameSync(partial, complete);
  return complete;
}

/** What a run that was ended from outside has not finished, unless another one is at it. */
export function discardPartial(folder) {
  const partial = readdirSync(folder).filter((name) => name.endsWith('.partial'));
  if (partial.length === 0) return;
  const paths = partial.map((name) => join(folder, name));
  spawnSync('flock', ['--nonblock', join(folder, 'lock'), 'rm', '-rf', '--one-file-system', ...paths]);
}

const discard = (path) => run('rm', ['-rf', '--one-file-system', path]);
