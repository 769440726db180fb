/**
 * The command line: its bytes, and what parseArgs made of it.
 * @module
 */
import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { UsageError } from './usage.ts';

/** One flag of a command. */
export interface Flag {
  readonly type: 'string' | 'boolean';
  readonly short?: string;
  readonly multiple?: boolean;
  /** `--flag` alone will do, and gives an empty text; a value follows an equals sign. */
  readonly optional?: boolean;
  /** What stands for the value in the help. */
  readonly value?: string;
  readonly help: string;
}

/** The flags of a command by their long names. */
export type Flags = Readonly<Record<string, Flag>>;

/** What was given. */
export interface Arguments {
  readonly positionals: readonly string[];
  text(name: string): string | undefined;
  texts(name: string): readonly string[];
  /** False where `--no-…` was given. */
  flag(name: string): boolean | undefined;
}

/**
 * The arguments of this process. Node.js replaces bytes that are not UTF-8; an argument that has such becomes one in which
 * each byte from 0x80 on is a lone surrogate, which {@link pathArgument} turns back.
 */
export function commandLine(): string[] {
  const args = process.argv.slice(2);
  if (!args.some((arg) => arg.includes('\ufffd'))) return args;
  const raw = readFileSync('/proc/self/cmdline').toString('latin1').split('\0').slice(0, -1);
  return args.length === 0 ? [] : raw.slice(-args.length).map(decode);
}

/** The bytes of an argument. */
export function pathArgument(argument: string): Buffer {
  const lone = /[\udc80-\udcff]/gu;
  if (!lone.test(argument)) return Buffer.from(argument);
  return Buffer.from(
    argument.replace(lone, (unit) => String.fromCharCode(unit.charCodeAt(0) - 0xdc00)),
    'latin1',
  );
}

function decode(latin1: string): string {
  const text = Buffer.from(latin1, 'latin1').toString();
  return Buffer.from(text).equals(Buffer.from(latin1, 'latin1'))
    ? text
    : latin1.replace(/[\x80-\xff]/g, (byte) => String.fromCharCode(0xdc00 + byte.charCodeAt(0)));
}

/** Reads the arguments of one command; what is wrong with them is a {@link UsageError}. */
export function readArguments(args: readonly string[], flags: Flags): Arguments {
  const options = Object.fromEntries(
    Object.entries(flags).map(([name, { type, short, multiple = false }]) => [
      name,
      { type, multiple, ...(short === undefined ? {} : { short }) },
    ]),
  );
  const alone = (arg: string) => arg.startsWith('--') && flags[arg.slice(2)]?.optional === true;
  const { values, positionals } = parse(
    args.map((arg) => (alone(arg) ? `${arg}=` : arg)),
    options,
  );
  return {
    positionals,
    text: (name) => values[name] as string | undefined,
    texts: (name) => (values[name] ?? []) as string[],
    flag: (name) => values[name] as boolean | undefined,
  };
}

/** A flag that is a number; how large it may be is checked where the library's options are. */
export function wholeNumber(args: Arguments, name: string): number | undefined {
  const text = args.text(name);
  if (text === undefined) return undefined;
  if (!/^\d+$/.test(text)) throw new UsageError(`--${name} ${text}: a number is wanted`);
  return Number(text);
}

function parse(args: readonly string[], options: NonNullable<Parameters<typeof parseArgs>[0]>['options']) {
  try {
    return parseArgs({
      args: [...args],
      options: options ?? {},
      allowPositionals: true,
      allowNegative: true,
    });
  } catch (error) {
    // Its first sentence says what is wrong; the others explain the syntax of shells.
    if (error instanceof TypeError) throw new UsageError(error.message.split(/\.(\s|$)/)[0] ?? '');
    throw error;
  }
}
