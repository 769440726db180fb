/**
 * The options of `changes()` as flags.
 * @module
 */
import type { ChangeOptions } from '../changes/changes.ts';
import { type Arguments, type Flags, pathArgument, wholeNumber } from './arguments.ts';

/** What every command that asks for changes takes. */
export const changeFlags: Flags = {
  compare: {
    type: 'string',
    value: 'WORD',
    help: 'what makes a copied-up file a change: metadata (the default), content or none',
  },
  renames: { type: 'boolean', help: 'the default; --no-renames: tell them as deleted and added' },
  'dir-times': { type: 'boolean', help: 'also directories of which nothing but the time has changed' },
  include: { type: 'string', multiple: true, value: 'PATH', help: 'only what lies at or below it' },
  exclude: { type: 'string', multiple: true, value: 'PATH', help: 'not what lies at or below it' },
  threads: { type: 'string', value: 'N', help: '1 to 64; one for each processor, at most 8' },
};

/** The options that were given. Their values are checked where those of the library are. */
export function changeOptions(args: Arguments): ChangeOptions {
  const [include, exclude] = [args.texts('include'), args.texts('exclude')];
  const given = {
    compare: args.text('compare'),
    onError: args.text('on-error'),
    renames: args.flag('renames'),
    expand: args.flag('expand'),
    dirTimes: args.flag('dir-times'),
    include: include.length === 0 ? undefined : include.map(pathArgument),
    exclude: exclude.length === 0 ? undefined : exclude.map(pathArgument),
    threads: wholeNumber(args, 'threads'),
  };
  return Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
}
