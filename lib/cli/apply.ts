/**
 * `overlayfs apply`
 * @module
 */
import { type ApplyResult, applyChanges, type ConflictDecision } from '../changes/apply.ts';
import { type ApplyConflict, differences } from '../changes/apply-errors.ts';
import type { Change } from '../changes/change.ts';
import { type ChangeOptions, changes } from '../changes/changes.ts';
import { formatBytes } from '../changes/summary.ts';
import type { LayerStack } from '../types.ts';
import { type Arguments, pathArgument } from './arguments.ts';
import { changeFlags, changeOptions } from './change-flags.ts';
import { changeLine } from './change-lines.ts';
import type { Command, OutputStream } from './command.ts';
import { type Paint, printable, toJsonLine } from './output.ts';
import { stackAsked, stackFlags } from './stack-flags.ts';
import { UsageError } from './usage.ts';

const decisions: readonly string[] = ['abort', 'skip', 'apply'] satisfies ConflictDecision[];
const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/** Makes a directory look as the overlay does. */
export const command: Command = {
  positionals: ['[TARGET]', 'DIRECTORY'],
  flags: {
    ...stackFlags,
    'on-conflict': {
      type: 'string',
      value: 'WORD',
      help: 'where DIRECTORY is not as the lowers are: abort (the default), skip, or apply all the same',
    },
    'dry-run': { type: 'boolean', help: 'only tell what would be applied, and every conflict' },
    ...changeFlags,
  },
  examples: [
    'overlayfs apply --dry-run /srv/box/merged /srv/copy     # of the overlay that is mounted there',
    'overlayfs apply -l /srv/base -u /srv/box/upper -w /srv/box/work /srv/base',
    'overlayfs apply --include src --on-conflict skip --json /srv/box/merged /srv/copy   # a line each; `done` is the last',
  ],
  exitOne: 'with --dry-run: a conflict would make it fail',
  what: ({ positionals }) => `cannot apply the changes to ${printable(positionals.at(-1) ?? '')}`,
  run: async (args, paint) => {
    const onConflict = args.text('on-conflict') ?? 'abort';
    if (!decisions.includes(onConflict))
      throw new UsageError(`--on-conflict must be one of ${decisions.join(', ')} (received '${onConflict}')`);
    const [directory = '', target] = [...args.positionals].reverse();
    const stack = await stackAsked(args, target);
    const dryRun = args.flag('dry-run') === true;
    const run = { stack, options: changeOptions(args), directory, onConflict, dryRun } as Run;
    return printed(run, args, paint);
  },
};

interface Run {
  readonly stack: LayerStack;
  readonly options: ChangeOptions;
  readonly directory: string;
  readonly onConflict: ConflictDecision;
  readonly dryRun: boolean;
}

async function* printed(run: Run, args: Arguments, paint: Paint): OutputStream {
  await using stream = changes(run.stack, run.options);
  const conflicts = new Map<Change, ApplyConflict>();
  const result = await unlessInterrupted((signal) =>
    applyChanges(stream, pathArgument(run.directory), {
      dryRun: run.dryRun,
      signal,
      ...(run.onConflict === 'abort' && !run.dryRun
        ? {}
        : {
            onConflict: (conflict) => {
              conflicts.set(conflict.change, conflict);
              return run.onConflict === 'abort' ? 'skip' : run.onConflict;
            },
          }),
    }),
  );
  const wouldFail = run.dryRun && run.onConflict === 'abort' && conflicts.size > 0;
  const { applied, skipped, ...rest } = result;
  if (args.flag('json')) {
    const told = (decision: string) => (change: Change) => {
      const { reason, path } = conflicts.get(change) ?? {};
      const conflict = reason === undefined ? {} : { conflict: { reason, path } };
      return toJsonLine({ decision, ...conflict, change });
    };
    yield* byThousand(applied, told('applied'));
    yield* byThousand(skipped, told('skipped'));
    const counts = { applied: applied.length, skipped: skipped.length };
    yield toJsonLine({ done: { dryRun: run.dryRun, ...counts, ...rest } });
    return wouldFail;
  }
  yield* byThousand(applied, (change) => changeLine(change, paint));
  yield* byThousand(skipped, (change) => skippedLine(change, conflicts.get(change), paint));
  yield lastLine(result, run.dryRun, wouldFail);
  return wouldFail;
}

function* byThousand(all: readonly Change[], line: (change: Change) => string): Generator<string> {
  for (let at = 0; at < all.length; at += 1000)
    yield all
      .slice(at, at + 1000)
      .map(line)
      .join('');
}

function skippedLine(change: Change, conflict: ApplyConflict | undefined, paint: Paint): string {
  const why =
    conflict === undefined
      ? `${change.path} needs something that is left out`
      : `${conflict.path} ${differences[conflict.reason]}`;
  return `${paint('yellow', 'skipped ')}  ${printable(why)}\n`;
}

function lastLine(result: ApplyResult, dryRun: boolean, wouldFail: boolean): string {
  const { applied, skipped, bytes, dropped, left } = result;
  const numbers = [
    `${applied.length} applied`,
    ...(skipped.length === 0 ? [] : [`${skipped.length} skipped`]),
    ...(bytes === 0n ? [] : [`${formatBytes(bytes)} copied`]),
    ...(dropped.length === 0 ? [] : [`${dropped.length} extended attributes not carried over`]),
    ...left.map((path) => `what could not be removed is in ${printable(path)}`),
  ].join(', ');
  if (wouldFail) return `Nothing would be applied: ${skipped.length} conflict or need what conflicts.\n`;
  return `${dryRun ? `Would be: ${numbers}` : numbers}.\n`;
}

/** A signal takes back what has been done, then takes its course. */
async function unlessInterrupted<T>(work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const interrupted = new AbortController();
  const stop = (signal: NodeJS.Signals): void => interrupted.abort(signal);
  for (const signal of signals) process.on(signal, stop);
  try {
    return await work(interrupted.signal);
  } finally {
    for (const signal of signals) process.off(signal, stop);
    if (interrupted.signal.aborted) process.kill(process.pid, interrupted.signal.reason as NodeJS.Signals);
  }
}
