/**
 * Commands by their names: which one is asked for, and what `--help` says of all. Each is loaded when it is asked for.
 * @module
 */
import type { Command } from './command.ts';

/** One command, or a group of its own. */
export interface Entry {
  readonly summary: string;
  readonly load: () => Promise<{ readonly command: Command } | { readonly group: Group }>;
}

/** Commands that share their first word. */
export interface Group {
  /** What they are for, in one sentence. */
  readonly about: string;
  readonly commands: Readonly<Record<string, Entry>>;
  readonly examples: readonly string[];
}

/** Runs what the arguments name. Resolves with the exit code. */
export async function dispatch(program: string, group: Group, args: readonly string[]): Promise<number> {
  const [name = '', ...rest] = args;
  const entry = Object.hasOwn(group.commands, name) ? group.commands[name] : undefined;
  if (entry !== undefined) {
    const loaded = await entry.load();
    if ('group' in loaded) return dispatch(`${program} ${name}`, loaded.group, rest);
    const { runCommand } = await import('./command.ts');
    return runCommand(`${program} ${name}`, entry.summary, loaded.command, rest);
  }
  if (name === '--help' || name === '-h') {
    console.log(help(program, group));
    return 0;
  }
  const [{ printFailure }, { UsageError }] = await Promise.all([
    import('./command.ts'),
    import('./usage.ts'),
  ]);
  const problem = name === '' ? 'no command is given' : `there is no command '${name}'`;
  return printFailure(program, '', new UsageError(problem), args.includes('--json'));
}

function help(program: string, { about, commands, examples }: Group): string {
  return [
    `Usage: ${program} COMMAND [FLAGS] …`,
    '',
    about,
    '',
    'Commands:',
    ...Object.entries(commands).map(([name, { summary }]) => `  ${name.padEnd(10)} ${summary}`),
    '',
    `Each takes --help, which has examples, and --json.${program.includes(' ') ? '' : ' Also: --version.'}`,
    'Exit codes: 0, done; 1, it failed; 2, wrong usage.',
    '',
    'Examples:',
    ...examples.map((example) => `  ${example}`),
  ].join('\n');
}
