/**
 * `overlayfs copy-up`
 * @module
 */
import { availableParallelism, constants } from 'node:os';
import { overlayError } from '../errors.ts';
import { explainNative, isNativeError, nativeDetails } from '../native-errors.ts';
import { copyUpMounted } from '../overlay/copy-up.ts';
import { absolutePath, showPath } from '../paths.ts';
import { pathArgument, wholeNumber } from './arguments.ts';
import type { Command } from './command.ts';
import { printable } from './output.ts';

/** Copies up through an overlay that anybody has mounted. */
export const command: Command = {
  positionals: ['TARGET', 'PATH', '[PATH …]'],
  flags: {
    recursive: { type: 'boolean', short: 'r', help: 'directories with all that is below them' },
    concurrency: { type: 'string', value: 'N', help: 'threads, 1 to 64; one for each processor, at most 4' },
  },
  examples: [
    'overlayfs copy-up /srv/box/merged var/lib/db/data.mdb',
    'overlayfs copy-up --recursive --json /srv/box/merged var/lib etc',
  ],
  what: ({ positionals: [target = ''] }) => `cannot copy up in ${printable(target)}`,
  run: async (args) => {
    const {
      positionals: [target = '', ...paths],
    } = args;
    const concurrency = wholeNumber(args, 'concurrency') ?? Math.min(availableParallelism(), 4);
    const root = absolutePath(pathArgument(target), 'target');
    const options = { recursive: args.flag('recursive') === true, concurrency };
    const results = await copyUpMounted(root, paths.map(pathArgument), options, false, (work) =>
      work().catch((error) => {
        throw explainTarget(error, root);
      }),
    );
    const lines = results.map(({ path, method, reason }) => {
      const done = method === 'skipped' ? 'skipped' : 'copied up';
      return printable(`${path === '' ? '.' : path}: ${done}${reason === undefined ? '' : `, ${reason}`}`);
    });
    return { text: lines.join('\n'), json: results };
  },
};

function explainTarget(error: unknown, root: Buffer): unknown {
  if (!isNativeError(error)) return error;
  const { EINVAL, ENOENT, ENOTDIR } = constants.errno;
  const target = showPath(root);
  const details = { ...nativeDetails(error), path: target };
  switch (-error.errno) {
    case EINVAL:
      return overlayError(
        'ERR_OVERLAY_NOT_AN_OVERLAY',
        `no overlay is mounted at ${target}`,
        'Name the directory that it is mounted on; `overlayfs ls` tells all',
        details,
      );
    case ENOENT:
      return overlayError(
        'ERR_OVERLAY_TARGET_NOT_FOUND',
        `${target} does not exist`,
        'Correct the path',
        details,
      );
    case ENOTDIR:
      return overlayError(
        'ERR_OVERLAY_TARGET_NOT_DIRECTORY',
        `${target} is not a directory`,
        'Name the directory that the overlay is mounted on',
        details,
      );
    default:
      return explainNative(error, 'ERR_OVERLAY_TARGET_UNREACHABLE', `${target} cannot be reached`);
  }
}
