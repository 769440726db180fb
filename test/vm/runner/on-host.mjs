// Runs the command on this machine's own kernel, in namespaces that go with it, and on a /tmp of its own.
import { spawn } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { constants, release } from 'node:os';
import { run } from './command.mjs';
import { isWithin, letGo, mounts } from './mounts.mjs';
import { RunnerError, say } from './say.mjs';

export async function runOnHost({ command, directory, project, timeout, environment, prepare }) {
  if (prepare) return 0;
  const elsewhere = mounts()
    .map(({ point }) => point)
    .filter((point) => !isWithin(point, '/tmp'));
  await letGo({ paths: [directory, project, ...elsewhere], below: [project] });
  await coverTmp(project);
  say(`Linux ${release()} (host)`);
  return new Promise((resolve, reject) => {
    const [program, ...args] = command;
    const child = spawn(program, args, {
      cwd: directory,
      stdio: ['ignore', 'inherit', 'inherit'],
      env: { ...process.env, ...environment, TMPDIR: '/tmp', OVERLAYFS_VM: 'host' },
    });
    const tooLong = () => reject(new RunnerError(`the command did not end within ${timeout} s`));
    const timer = setTimeout(tooLong, timeout * 1000);
    child.once('error', ({ code, message }) => {
      say(`${program}: ${message}`);
      resolve(code === 'ENOENT' ? 127 : 126);
    });
    child.once('exit', (code, signal) => {
      clearTimeout(timer);
      resolve(code ?? 128 + constants.signals[signal]);
    });
  });
}

/** An empty /tmp, in which nothing but the project is seen if it lies there. */
async function coverTmp(project) {
  const inTmp = isWithin(project, '/tmp');
  if (inTmp) await run('mount', ['--rbind', project, '/mnt']);
  await run('mount', ['-t', 'tmpfs', '-o', 'mode=1777', 'tmp', '/tmp']);
  if (!inTmp) return;
  mkdirSync(project, { recursive: true });
  await run('mount', ['--move', '/mnt', project]);
}
