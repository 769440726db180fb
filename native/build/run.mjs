// What every build script shares: where the project is, how a command is run, which Node headers it is compiled against.
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

export const root = fileURLToPath(new URL('../..', import.meta.url));

/** Runs a command on our own terminal, in the project's folder, and returns its exit code. */
export function attempt(command, args, { env, ...options } = {}) {
  const settings = { cwd: root, stdio: 'inherit', ...options, env: { ...process.env, ...env } };
  const { status, signal, error } = spawnSync(command, args, settings);
  if (error) console.error(`${command}: ${error.message}`);
  if (signal) console.error(`${command}: ended by ${signal}`);
  return status ?? 1;
}

/** Runs a command as `attempt` does; if it fails, this process ends with its exit code. */
export function run(command, args, options) {
  const status = attempt(command, args, options);
  if (status === 0) return;
  console.error(`failed (exit ${status}): ${command} ${args.join(' ')}`.slice(0, 160));
  process.exit(status);
}

/** Runs a command and returns what it printed; undefined if it cannot be run or fails. */
export function capture(command, args) {
  const { status, stdout } = spawnSync(command, args, { cwd: root, encoding: 'utf8' });
  return status === 0 ? stdout.trim() : undefined;
}

/** Runs a JavaScript file of this project or of a development dependency. */
export function runNode(file, args = [], options = {}) {
  run(process.execPath, [file, ...args], options);
}

/** The command of a development dependency, whoever calls us and whatever PATH is. */
export const tool = (name) => `${root}node_modules/.bin/${name}`;
