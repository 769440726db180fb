/**
 * Namespaces of their own for programs that start others, mount, and leave sockets and locks in /run: when the enclosure
 * ends, or the test process dies, the kernel ends every process in it and drops every mount.
 */
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, existsSync, openSync, readdirSync, readFileSync, rmdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { waitingShell } from '../child.ts';
import type { Scratch } from '../scratch.ts';

export interface Enclosure extends AsyncDisposable {
  /** The control group that everything started in here belongs below; it goes with the enclosure. */
  readonly cgroup: string;
  /** Where a path of the enclosure, its mounts included, is to be found from outside. */
  path(inside: string): string;
  /** Runs a program to its end; its standard output as latin1, the last newline cut off. */
  run(command: string, args: readonly string[], env?: NodeJS.ProcessEnv): string;
  /** Starts a program, waits for a file that shows that it is ready, and resolves with what ends it. */
  start(command: string, args: readonly string[], ready: string): Promise<() => Promise<void>>;
}

// SIGCHLD that is ignored has the kernel reap what daemons leave to the first process. What outer /proc shows of the
// shell is its number outside.
const prepare = `read -r pid rest < /proc/self/stat; echo "$pid"
mount -t proc proc /proc
for directory in /run /dev/shm /var/cache /var/lib; do mount -t tmpfs -o mode=0755 tmpfs "$directory"; done
trap '' CHLD`;

/** Opens one; nothing may be mounted of what the test writes to, since the enclosure's mounts begin as a copy. */
export async function openEnclosure(scratch: Scratch): Promise<Enclosure> {
  const namespaces = ['--mount', '--propagation', 'private', '--pid', '--fork', '--kill-child'];
  const shell = await waitingShell(prepare, ['unshare', ...namespaces]);
  const pid = shell.said.trim();
  const enter = ['--target', pid, '--mount', '--pid', '--'];
  const cgroup = `/overlayfs-test-${pid}`;
  const log = scratch.file('log');

  return {
    cgroup,
    path: (inside) => join(`/proc/${pid}/root`, inside),
    run: (command, args, env = {}) =>
      withLog(log, (output) =>
        execFileSync('nsenter', [...enter, command, ...args], {
          encoding: 'latin1',
          stdio: ['ignore', 'pipe', output],
          env: { ...process.env, ...env },
          maxBuffer: 1 << 26,
        }),
      ).trimEnd(),
    start: async (command, args, ready) => {
      rmSync(ready, { force: true });
      const output = openSync(log, 'a');
      const child = spawn('nsenter', [...enter, command, ...args], { stdio: ['ignore', output, output] });
      closeSync(output);
      const ended = once(child, 'exit');
      while (!existsSync(ready)) {
        if (child.exitCode !== null) throw new Error(`${command} ended:\n${readFileSync(log, 'utf8')}`);
        await setTimeout(20);
      }
      // A child of nsenter's.
      const [started = ''] = readFileSync(`/proc/${child.pid}/task/${child.pid}/children`, 'utf8').split(' ');
      return async () => {
        process.kill(Number(started), 'SIGTERM');
        await ended;
      };
    },
    [Symbol.asyncDispose]: async () => {
      await shell[Symbol.asyncDispose]();
      for (const hierarchy of ['', ...readdirSync('/sys/fs/cgroup')])
        removeCgroup(join('/sys/fs/cgroup', hierarchy, cgroup));
    },
  };
}

/** Runs something with a descriptor of the log; what it says is added to an error. */
function withLog(log: string, work: (output: number) => string): string {
  const output = openSync(log, 'a');
  try {
    return work(output);
  } catch (error) {
    const said = readFileSync(log, 'utf8').split('\n').slice(-30).join('\n');
    throw new Error(`${(error as Error).message}\n${said}`, { cause: error });
  } finally {
    closeSync(output);
  }
}

// The files in there are the kernel's, and go with their directory.
function removeCgroup(path: string): void {
  if (!existsSync(path)) return;
  for (const entry of readdirSync(path, { withFileTypes: true }))
    if (entry.isDirectory()) removeCgroup(join(path, entry.name));
  rmdirSync(path);
}
