// Commands that the runner runs for itself.
import { spawn } from 'node:child_process';
import { text } from 'node:stream/consumers';
import { RunnerError } from './say.mjs';

/** Runs it and returns what it printed; throws a RunnerError with the end of what it complained of. */
export async function run(command, args, options = {}) {
  const { status, out, errors } = await attempt(command, args, options);
  if (status === 0) return out;
  throw new RunnerError(`${[command, ...args].join(' ').slice(0, 300)}: ${tail(errors || out, 5) || status}`);
}

/** Runs it; the status is its exit code, or the name of the signal or error that ended it. */
export async function attempt(command, args, options = {}) {
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'], ...options });
  const ended = new Promise((resolve) => {
    child.once('error', (error) => resolve(error.message));
    child.once('close', (code, signal) => resolve(code ?? signal));
  });
  const [out, errors] = await Promise.all([text(child.stdout), text(child.stderr)]);
  return { status: await ended, out, errors: errors.trim() };
}

/** The last lines of a text. */
export const tail = (lines, count) => lines.trimEnd().split('\n').slice(-count).join('\n');
