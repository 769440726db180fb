/**
 * `overlayfs support`
 * @module
 */
import type { Answer } from '../inspect/answer.ts';
import { type Support, support } from '../inspect/support.ts';
import { pathArgument } from './arguments.ts';
import type { Command } from './command.ts';
import { type Paint, printable } from './output.ts';

/** Tells what this kernel, this privilege and these directories allow. */
export const command: Command = {
  positionals: [],
  flags: {
    lower: {
      type: 'string',
      short: 'l',
      multiple: true,
      value: 'DIR',
      help: 'a directory that would be a lower',
    },
    upper: {
      type: 'string',
      short: 'u',
      value: 'DIR',
      help: 'one that would be the upper; probed by making files',
    },
    work: {
      type: 'string',
      short: 'w',
      value: 'DIR',
      help: 'one that would be the work directory; likewise',
    },
  },
  examples: ['overlayfs support', 'overlayfs support --upper /srv/box/upper --json'],
  what: () => 'cannot tell what is supported',
  run: async (args, paint) => {
    const [lower, upper, work] = [
      args.texts('lower').map(pathArgument),
      args.text('upper'),
      args.text('work'),
    ];
    const found = await support({
      ...(lower.length === 0 ? {} : { lower }),
      ...(upper === undefined ? {} : { upper: pathArgument(upper) }),
      ...(work === undefined ? {} : { work: pathArgument(work) }),
    });
    return { text: shown(found, paint).join('\n'), json: found };
  },
};

function shown(found: Support, paint: Paint): string[] {
  const {
    kernel,
    mount,
    rungs,
    features,
    options,
    inUseProbe,
    userNamespaces,
    filtered,
    lower,
    upper,
    work,
  } = found;
  const title = (text: string) => `\n${paint('bold', text)}`;
  const lines = (answers: Readonly<Record<string, Answer>>) =>
    Object.entries(answers).map(([name, { ok, reason, evidence }]) => {
      return `  ${paint(ok ? 'green' : 'yellow', ok ? 'yes' : 'no ')}  ${name.padEnd(16)} ${reason} (${evidence})`;
    });
  const directories = [
    ...(lower ?? []).map((one) => ['lower', one] as const),
    ...(upper === undefined ? [] : [['upper', upper] as const]),
    ...(work === undefined ? [] : [['work', work] as const]),
  ];
  return [
    `Linux ${kernel.release}`,
    title('Mounting'),
    ...lines({
      mount,
      inUseProbe,
      'user namespaces': userNamespaces.allowed,
      unprivileged: userNamespaces.unprivileged,
    }),
    title('Ways'),
    ...lines(rungs),
    title('Features'),
    ...lines(features),
    title('Options'),
    ...Object.entries(options).map(([key, values]) => `  ${key}: ${takenValues(values)}`),
    ...(filtered.length === 0 ? [] : [title('Refused by a filter'), `  ${filtered.join(' ')}`]),
    ...directories.flatMap(([role, { path, fileSystem, room, ...rest }]) => [
      title(
        `${role} ${printable(path)} (${fileSystem}, ${room.bytes >> 20n} MiB and ${room.inodes} inodes left)`,
      ),
      ...lines(Object.fromEntries(Object.entries(rest).filter(isAnswer))),
    ]),
  ];
}

const isAnswer = (entry: [string, Answer | boolean]): entry is [string, Answer] =>
  typeof entry[1] === 'object';

function takenValues(values: Readonly<Record<string, Answer>>): string {
  const taken = Object.entries(values).filter(([, { ok }]) => ok);
  if (taken.length === 0) return 'no';
  return taken.map(([value]) => value || 'yes').join(' ');
}
