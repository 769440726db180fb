/**
 * `overlayfs diff`
 * @module
 */
import type { Change } from '../changes/change.ts';
import { type ChangeOptions, changes } from '../changes/changes.ts';
import type { ChangeResult } from '../changes/stream.ts';
import { formatSummary, summarize } from '../changes/summary.ts';
import type { LayerStack } from '../types.ts';
import type { Arguments } from './arguments.ts';
import { changeFlags, changeOptions } from './change-flags.ts';
import { changeLine, nameStatusFields, nameStatusLine } from './change-lines.ts';
import type { Command, Outcome, OutputStream } from './command.ts';
import { type Paint, printable, toJsonLine } from './output.ts';
import { stackAsked, stackFlags } from './stack-flags.ts';
import { UsageError } from './usage.ts';

/** Tells what the upper changes, of an overlay that is mounted or of layers. */
export const command: Command = {
  positionals: ['[TARGET]'],
  flags: {
    ...stackFlags,
    'name-status': {
      type: 'boolean',
      help: 'as git: A added, M modified, D deleted, T replaced, R renamed',
    },
    null: { type: 'boolean', short: 'z', help: 'with --name-status: fields end with a NUL byte, no quotes' },
    stat: { type: 'boolean', help: 'sum up: what is gone, how many, how many bytes, the biggest files' },
    'exit-code': { type: 'boolean', help: 'exit with 1 if anything has changed' },
    ...changeFlags,
    expand: { type: 'boolean', help: 'also what was in directories that were deleted or replaced' },
    'on-error': {
      type: 'string',
      value: 'WORD',
      help: 'throw (the default); collect: tell the rest, and what failed at the end',
    },
  },
  examples: [
    'overlayfs diff /srv/box/merged',
    'overlayfs diff --stat -l /srv/app -l /srv/base -u /srv/box/upper -w /srv/box/work',
    'overlayfs diff --name-status -z --exclude var/cache /srv/box/merged',
    'overlayfs diff --json /srv/box/merged | jq -r \'select(.kind == "deleted").path\'   # a line each; `done` is the last',
  ],
  exitOne: 'something could not be looked at, or with --exit-code: something has changed',
  what: ({ positionals: [target] }) =>
    target === undefined ? 'cannot tell the changes' : `cannot tell the changes of ${printable(target)}`,
  run: async (args, paint) => {
    const [, wrong] = conflictingForms.find(([names]) => names.every((name) => args.flag(name))) ?? [];
    if (wrong !== undefined) throw new UsageError(wrong);
    if (args.flag('null') && !args.flag('name-status')) throw new UsageError('--null needs --name-status');
    const stack = await stackAsked(args, args.positionals[0]);
    const options = changeOptions(args);
    return args.flag('stat') ? summed(stack, options, args) : listed(stack, options, args, paint);
  },
};

const conflictingForms = [
  [['name-status', 'stat'], '--name-status or --stat, not both'],
  [['name-status', 'json'], '--name-status or --json, not both'],
] as const;

async function summed(stack: LayerStack, options: ChangeOptions, args: Arguments): Promise<Outcome> {
  const summary = await summarize(stack, options);
  return { text: formatSummary(summary), json: summary, failed: isBad(summary, args) };
}

async function* listed(
  stack: LayerStack,
  options: ChangeOptions,
  args: Arguments,
  paint: Paint,
): OutputStream {
  await using stream = changes(stack, options);
  const chunk = form(args, paint);
  for await (const batch of stream.batches()) yield chunk(batch);
  const done = await stream.done;
  if (args.flag('json')) yield toJsonLine({ done });
  else
    for (const remark of remarks(done))
      console.error(paint('yellow', `overlayfs diff: ${printable(remark)}`));
  return isBad(done, args);
}

// A batch at a time: a write for each line would take longer than finding it.
function form(args: Arguments, paint: Paint): (batch: readonly Change[]) => string | Buffer {
  if (args.flag('null')) return (batch) => Buffer.concat(batch.map(nameStatusFields));
  const line = args.flag('json')
    ? toJsonLine
    : args.flag('name-status')
      ? nameStatusLine
      : (change: Change) => changeLine(change, paint);
  return (batch) => batch.map(line).join('');
}

function remarks({ errors, consistent, scannedLower, renamesCut }: ChangeResult): string[] {
  return [
    ...errors.map(({ message }) => `not looked at: ${message}`),
    ...(consistent ? [] : ['the upper changed while it was read: this is of no single moment']),
    ...(scannedLower ? ['the lowers were read whole, for the other names of hard links'] : []),
    ...(renamesCut ? ['too many files were moved: some renames are told as deleted and added'] : []),
  ];
}

function isBad({ errors, counts }: ChangeResult, args: Arguments): boolean {
  const changed = Object.values(counts).some((count) => count > 0);
  return errors.length > 0 || (changed && args.flag('exit-code') === true);
}
