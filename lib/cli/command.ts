/**
 * A subcommand: what it takes, what it does, how its help reads, and how it is run.
 * @module
 */
import { OverlayError } from '../errors.ts';
import { type Arguments, type Flags, readArguments } from './arguments.ts';
import { inFlags, kebabCase } from './mount-flags.ts';
import { errorFields, errorLines, type Paint, paintFor, toJson, written } from './output.ts';
import { UsageError } from './usage.ts';

/** What came of a command. Either is printed; nothing else is. */
export interface Outcome {
  /** For people; empty: nothing to say. */
  readonly text: string;
  /** What `--json` prints. */
  readonly json: unknown;
  /** It was carried out, and the answer is bad. Default false. */
  readonly failed?: boolean;
}

/** Output of any length, printed as it comes: text or JSON, whichever was asked for. Returns whether the answer is bad. */
export type OutputStream = AsyncGenerator<string | Uint8Array, boolean, undefined>;

/** One subcommand. */
export interface Command {
  /** The names of its arguments, as help shows them; those that may be left out are in brackets, and `…` is for more. */
  readonly positionals: readonly string[];
  readonly flags: Flags;
  readonly examples: readonly string[];
  /** What the exit code 1 means beside a failure. */
  readonly exitOne?: string;
  /** What could not be done, for the first line of an error. */
  readonly what: (args: Arguments) => string;
  readonly run: (args: Arguments, paint: Paint) => Promise<Outcome | OutputStream>;
}

const commonFlags: Flags = {
  json: { type: 'boolean', help: 'print the result as JSON; bigints as strings, errors on stderr' },
  help: { type: 'boolean', short: 'h', help: 'print this' },
};

/** Runs a command and prints what came of it; `program` is all the words that name it. Resolves with the exit code. */
export async function runCommand(
  program: string,
  summary: string,
  command: Command,
  given: readonly string[],
): Promise<number> {
  const json = given.includes('--json');
  let args: Arguments | undefined;
  try {
    args = readArguments(given, { ...command.flags, ...commonFlags });
    if (args.flag('help')) {
      console.log(help(program, summary, command));
      return 0;
    }
    checkPositionals(command, args);
    const outcome = await command.run(args, paintFor(process.stdout));
    if (Symbol.asyncIterator in outcome) return (await printAll(outcome)) ? 1 : 0;
    const { text, json: value, failed = false } = outcome;
    if (json) console.log(toJson(value));
    else if (text !== '') console.log(text);
    return failed ? 1 : 0;
  } catch (error) {
    const what = args === undefined ? '' : command.what(args);
    return printFailure(program, what, error, json, command.flags);
  }
}

async function printAll(output: OutputStream): Promise<boolean> {
  for (;;) {
    const { done, value } = await output.next();
    if (done) return value;
    // `overlayfs diff … | head`: what nobody reads is not looked for either.
    if (!(await written(value))) return (await output.return(false)).value === true;
  }
}

/** Prints an error and gives its exit code: 2 for a command line that is wrong, else 1. */
export function printFailure(
  program: string,
  what: string,
  error: unknown,
  json: boolean,
  flags: Flags = {},
): number {
  const inWords = (fix: string) => inFlags(fix, flags);
  const usage = usageProblem(error);
  if (json) console.error(toJson({ error: errorFields(usage ?? error) }));
  else if (usage === undefined)
    console.error(errorLines(`${program}: ${what}`, error, paintFor(process.stderr), inWords));
  else {
    const paint = paintFor(process.stderr);
    console.error(`${paint('red', `${program}: wrong usage`)}\n  ${paint('bold', 'why:')} ${usage.message}`);
    console.error(`  ${paint('bold', 'fix:')} See \`${program} --help\``);
  }
  return usage === undefined ? 1 : 2;
}

const ofOptions = /^(options|stack)\./;

// What the library refuses before it has looked at anything is a mistake on the command line.
function usageProblem(error: unknown): UsageError | undefined {
  if (error instanceof UsageError) return error;
  if (error instanceof OverlayError && error.code === 'ERR_OVERLAY_EMPTY_PATH') {
    return new UsageError(error.findings[0]?.detail.replace(ofOptions, ''));
  }
  if (!(error instanceof TypeError) || !('code' in error) || error.code !== 'ERR_INVALID_ARG_VALUE')
    return undefined;
  return new UsageError(
    error.message.replace(ofOptions, '').replace(/^\w+/, (option) => `--${kebabCase(option)}`),
  );
}

function checkPositionals({ positionals }: Command, { positionals: given }: Arguments): void {
  // Those in brackets are left out first, wherever they stand.
  const missing = positionals.filter((name) => !name.startsWith('['))[given.length];
  if (missing !== undefined) throw new UsageError(`${missing} is missing`);
  const extra = given[positionals.length];
  const takesMore = positionals.at(-1)?.endsWith(' …]') === true;
  if (extra !== undefined && !takesMore) throw new UsageError(`unexpected argument '${extra}'`);
}

function help(program: string, summary: string, command: Command): string {
  const flags = Object.entries({ ...command.flags, ...commonFlags }).map(([long, flag]) => {
    const { short, value = 'VALUE', type, optional = false, help: text } = flag;
    const after = type === 'boolean' ? '' : optional ? `[=${value}]` : ` ${value}`;
    const left = `  ${short === undefined ? '    ' : `-${short}, `}--${long}${after}`;
    return `${left.padEnd(34)} ${text}`;
  });
  const one = command.exitOne === undefined ? 'it failed' : `it failed, or ${command.exitOne}`;
  return [
    `Usage: ${[program, '[FLAGS]', ...command.positionals].join(' ')}`,
    '',
    `${summary}.`,
    '',
    'Flags:',
    ...flags,
    '',
    `Exit codes: 0, done; 1, ${one}; 2, wrong usage.`,
    '',
    'Examples:',
    ...command.examples.map((example) => `  ${example}`),
  ].join('\n');
}
