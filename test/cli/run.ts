/** The command as a process: dist/ must be built, as `npm run verify` does before the tests. */
import { spawnSync } from 'node:child_process';
import { chmodSync } from 'node:fs';
import { delimiter, dirname } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The built command. */
export const main = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));

/** What a process came to. */
export interface Ran {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a program to its end, with this Node.js first on PATH and no wish about colours. */
export function run(
  command: string,
  args: readonly (string | Buffer)[],
  { env = {}, cwd }: { env?: NodeJS.ProcessEnv; cwd?: string } = {},
): Ran {
  const { NO_COLOR: _, FORCE_COLOR: __, ...inherited } = process.env;
  const path = `${dirname(process.execPath)}${delimiter}${process.env.PATH}`;
  const options = {
    env: { ...inherited, PATH: path, ...env },
    encoding: 'utf8' as const,
    ...(cwd ? { cwd } : {}),
  };
  const { status, stdout, stderr } = spawnSync(command, args as string[], options);
  return { status, stdout, stderr };
}

/** `overlayfs …` */
export function overlayfs(...args: readonly string[]): Ran {
  return run(process.execPath, [main, ...args]);
}

/** Lets the kernel run the built command by its first line, as `npm install` does. */
export function makeExecutable(): void {
  chmodSync(main, 0o755);
}
