// The raw C++ twin: compiled with every run, asked line by line, timing itself.
import { execFileSync, spawn } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

const sources = fileURLToPath(new URL('raw', import.meta.url));

export const twinIn = (scratch) => join(scratch, 'twin');

export function compileTwin(scratch) {
  const files = readdirSync(sources).filter((file) => file.endsWith('.cc'));
  const flags = ['-std=c++20', '-O2', '-Wall', '-Wextra', '-Werror', '-pthread', '-o', twinIn(scratch)];
  execFileSync('g++', [...flags, ...files], { cwd: sources, stdio: 'inherit' });
}

/** The command line for one row. */
export function twinArguments(verb, room, shape) {
  const flags = Object.entries(shape).map(([name, value]) =>
    value === true ? `--${name}` : `--${name}=${value}`,
  );
  return [verb, room, ...flags];
}

/** Starts the twin for one row. `ask()` has it do the verb once, or the half named, and gives the nanoseconds. */
export function startTwin(scratch, verb, room, shape) {
  const twin = spawn(twinIn(scratch), twinArguments(verb, room, shape), {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const answers = createInterface({ input: twin.stdout })[Symbol.asyncIterator]();
  return {
    async ask(half = '') {
      twin.stdin.write(`${half}\n`);
      const { value = 'error: it ended' } = await answers.next();
      if (!/^\d+$/.test(value)) throw new Error(`the twin's ${verb}: ${value}`);
      return Number(value);
    },
    end: () => twin.stdin.end(),
  };
}
