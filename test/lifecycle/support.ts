/** What the lifecycle tests share: layers for one overlay after another, child programs, and the mount table. */
import { type ChildProcess, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, vi } from 'vitest';
import { mountOverlay } from '../../lib/index.ts';
import { describePrivileged } from '../support/needs.ts';
import { type Layers, scratchOn } from '../support/scratch.ts';

/** A privileged suite on a tmpfs of its own; `layers()` are new directories for one overlay each time. */
export function lifecycle(name: string, tests: (site: { root(): string; layers(): Layers }) => void): void {
  describePrivileged(name, () => {
    const scratch = scratchOn('tmpfs');
    let count = 0;
    tests({ root: () => scratch.root, layers: () => scratch.layers(String(count++)) });
  });
}

/** The mounts at or below this directory, as a process sees them. */
export function mountsAt(directory: string, pid: number | 'self' = 'self'): string[] {
  return readFileSync(`/proc/${pid}/mountinfo`, 'utf8')
    .split('\n')
    .map((line) => line.split(' ')[4] ?? '')
    .filter((point) => point === directory || point.startsWith(`${directory}/`));
}

/**
 * Checks that no overlay uses upper and work any more. Another test's new mount namespace may hold a copy of the mount
 * for a moment.
 */
export async function expectFree({ lower, upper, work }: Layers): Promise<void> {
  await vi.waitFor(
    async () => {
      const overlay = await mountOverlay({ lower, upper, work });
      await overlay.unmount();
    },
    { timeout: 10_000 },
  );
}

/** How a child ended. */
export interface Ended {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** A child program that runs. */
export interface Running {
  readonly child: ChildProcess;
  readonly ended: Promise<Ended>;
  /** Resolves when it has printed this; rejects when it ends without. */
  says(text: string): Promise<void>;
}

/** Starts a command. It should end when its standard input does, which this process closes at the latest by ending. */
export function start(command: readonly string[], env: NodeJS.ProcessEnv = {}): Running {
  const [file = '', ...args] = command;
  const child = spawn(file, args, { stdio: 'pipe', env: { ...process.env, ...env } });
  let stdout = '';
  let stderr = '';
  child.stderr.setEncoding('utf8').on('data', (text) => {
    stderr += text;
  });
  child.stdout.setEncoding('utf8').on('data', (text) => {
    stdout += text;
  });
  const ended = new Promise<Ended>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code, signal) => resolve({ code, signal, stdout, stderr }));
  });
  return {
    child,
    ended,
    says: (text) =>
      new Promise((resolve, reject) => {
        const look = () => stdout.includes(text) && resolve();
        child.stdout.on('data', look);
        look();
        ended.then(
          () => reject(new Error(`the child ended without saying '${text}': ${stdout}${stderr}`)),
          reject,
        );
      }),
  };
}

/** The command line of one of `children/`, given `spec` as JSON. It imports what `npm run build:ts` has built. */
export function program(name: string, spec: unknown, ...nodeOptions: string[]): string[] {
  const file = fileURLToPath(new URL(`children/${name}.mjs`, import.meta.url));
  return [process.execPath, ...nodeOptions, file, JSON.stringify(spec)];
}

/** Runs a command to its end. */
export async function run(command: readonly string[], env?: NodeJS.ProcessEnv): Promise<Ended> {
  const { child, ended } = start(command, env);
  child.stdin?.end();
  return ended;
}

/** Runs a command that must succeed and print JSON. */
export async function runJson<T>(command: readonly string[], env?: NodeJS.ProcessEnv): Promise<T> {
  const { code, signal, stdout, stderr } = await run(command, env);
  expect({ code, signal, stderr }).toEqual({ code: 0, signal: null, stderr: '' });
  return JSON.parse(stdout) as T;
}
