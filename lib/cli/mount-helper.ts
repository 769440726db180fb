/**
 * `mount.overlay` and `umount.overlay`: what mount(8) and umount(8) run for overlays where they find it in /sbin. Exactly
 * the kernel's semantics, without our checks and defaults; only the errors are better. mount(8), "EXTERNAL HELPERS".
 * @module
 */
import { constants } from 'node:os';
import { type ParseArgsConfig, parseArgs } from 'node:util';
import { binding } from '../addon.ts';
import { OverlayError } from '../errors.ts';
import { kernelFeatures } from '../inspect/kernel.ts';
import type { RemountFlag, Rung } from '../native/binding.ts';
import { isNativeError, nativeDetails, whatFailed } from '../native-errors.ts';
import { carryOut } from '../overlay/mount.ts';
import { exactPlan, layerProblems, type OptionString, readOptionString } from '../overlay/option-string.ts';
import { unmount } from '../overlay/unmount.ts';
import { absolutePath } from '../paths.ts';
import { pathArgument } from './arguments.ts';
import { inMountNamespace } from './namespace.ts';
import { errorLines, paintFor, printable } from './output.ts';
import { UsageError } from './usage.ts';

/** mount(8), "EXIT STATUS". We write no /etc/mtab, so there is no 16. */
const exitCodes = { ok: 0, usage: 1, system: 2, failed: 32 } as const;

const mountFlags = {
  sloppy: { type: 'boolean', short: 's' },
  fake: { type: 'boolean', short: 'f' },
  'no-mtab': { type: 'boolean', short: 'n' },
  verbose: { type: 'boolean', short: 'v' },
  namespace: { type: 'string', short: 'N' },
  types: { type: 'string', short: 't' },
  options: { type: 'string', short: 'o', multiple: true },
} as const;

const umountFlags = {
  lazy: { type: 'boolean', short: 'l' },
  force: { type: 'boolean', short: 'f' },
  'read-only': { type: 'boolean', short: 'r' },
  verbose: { type: 'boolean', short: 'v' },
  'no-mtab': { type: 'boolean', short: 'n' },
  namespace: { type: 'string', short: 'N' },
  types: { type: 'string', short: 't' },
} as const;

type Helper = 'mount.overlay' | 'umount.overlay';

/** Runs one of the helpers; resolves with its exit code. */
export async function runHelper(name: Helper, args: readonly string[]): Promise<number> {
  let work: { readonly target: string; readonly run: () => Promise<number> };
  try {
    work = name === 'mount.overlay' ? mountHelper(args) : umountHelper(args);
  } catch (error) {
    if (!(error instanceof UsageError) && !isParseError(error)) throw error;
    console.error(`${name}: ${error.message}`);
    return exitCodes.usage;
  }
  try {
    return await work.run();
  } catch (error) {
    const what =
      name === 'umount.overlay' ? 'not unmounted' : isRemount(error) ? 'not remounted' : 'not mounted';
    const line = `${name}: ${printable(work.target)} ${what}`;
    console.error(errorLines(line, error, paintFor(process.stderr)));
    return exitCodeOf(error);
  }
}

function mountHelper(args: readonly string[]) {
  const { values, positionals, elsewhere } = parse(args, mountFlags);
  const [source, target, extra] = positionals;
  if (source === undefined || target === undefined || extra !== undefined) {
    throw new UsageError('usage: mount.overlay SOURCE TARGET [-sfnv] [-N NAMESPACE] [-t TYPE] [-o OPTIONS]');
  }
  const { namespace, options = [], verbose = false, fake = false, sloppy = false } = values;
  const say = (text: string) => {
    if (verbose) console.log(`mount.overlay: ${printable(target)} ${text}`);
    return exitCodes.ok;
  };
  const run = async () => {
    if (namespace !== undefined) return inMountNamespace(namespace, 'mount.overlay', elsewhere);
    const path = absolutePath(pathArgument(target), 'target');
    const read = readOptionString(pathArgument(options.join(',')));
    if (fake) return say('would be mounted');
    if (read.remount) {
      await remount(path, read.flags);
      return say('remounted');
    }
    const sent = sloppy ? await withoutUnknown(read) : read;
    return say(`mounted by ${await mount(sent, pathArgument(source), path)}`);
  };
  return { target, run };
}

function umountHelper(args: readonly string[]) {
  const { values, positionals, elsewhere } = parse(args, umountFlags);
  const [target, extra] = positionals;
  if (target === undefined || extra !== undefined) {
    throw new UsageError('usage: umount.overlay TARGET [-lfrvn] [-N NAMESPACE] [-t TYPE]');
  }
  const { namespace, lazy = false, verbose = false } = values;
  const run = async () => {
    if (namespace !== undefined) return inMountNamespace(namespace, 'umount.overlay', elsewhere);
    const path = pathArgument(target);
    try {
      // MNT_FORCE, for -f, means nothing to overlayfs.
      await unmount(path, { lazy, timeout: 0 });
    } catch (error) {
      const busy = error instanceof OverlayError && error.code === 'ERR_OVERLAY_BUSY';
      if (!values['read-only'] || !busy) throw error;
      await remountReadonly(absolutePath(path, 'target'));
      console.error(`umount.overlay: ${printable(target)} is busy, and has been made read-only`);
      return exitCodes.ok;
    }
    if (verbose) console.log(`umount.overlay: ${printable(target)} unmounted`);
    return exitCodes.ok;
  };
  return { target, run };
}

async function mount(options: OptionString, source: Buffer, target: Buffer): Promise<Rung> {
  const features = await kernelFeatures();
  try {
    return (await carryOut(exactPlan(options, { source, target, features }), features)).rung;
  } catch (error) {
    if (!(error instanceof OverlayError) || error.code !== 'ERR_OVERLAY_MOUNT_FAILED') throw error;
    const [first, ...rest] = layerProblems(options, features);
    if (first === undefined) throw error;
    const { code: _, findings, cause, ...details } = error;
    throw new OverlayError([first, ...rest, ...findings], { ...details, cause });
  }
}

// The kernel ignores overlay options when it remounts, known or not; so they are not even sent.
async function remount(target: Buffer, flags: readonly RemountFlag[]): Promise<void> {
  try {
    await binding().remountTarget(target, flags);
  } catch (error) {
    if (!isNativeError(error)) throw error;
    const busy = -error.errno === constants.errno.EBUSY;
    const finding = {
      code: 'ERR_OVERLAY_REMOUNT_FAILED',
      severity: 'error',
      detail: busy ? `files in ${printable(target.toString())} are open for writing` : whatFailed(error),
      fix: busy
        ? 'Close them first'
        : 'See errno: EINVAL, nothing is mounted there; EPERM, it needs CAP_SYS_ADMIN',
    } as const;
    throw new OverlayError([finding], nativeDetails(error));
  }
}

/** Read-only, with the flags that the mount has. */
async function remountReadonly(target: Buffer): Promise<void> {
  const [facts] = await binding().directoryFacts([target]);
  const kept = facts?.error === undefined ? (facts?.mount?.mountFlags ?? []) : [];
  await remount(target, ['readonly', ...kept.filter((flag) => flag !== 'idmapped')]);
}

/** `-s`: what this kernel refuses on its own is left out. */
async function withoutUnknown(options: OptionString): Promise<OptionString> {
  const { nativeParser } = await kernelFeatures();
  if (!nativeParser) return options;
  const errnos = await binding().tryOptions(options.options);
  return { ...options, options: options.options.filter((_, i) => errnos[i] === 0) };
}

function exitCodeOf(error: unknown): number {
  if (!(error instanceof OverlayError)) return exitCodes.failed;
  switch (error.code) {
    case 'ERR_OVERLAY_NO_PRIVILEGE':
    case 'ERR_OVERLAY_EMPTY_PATH':
      return exitCodes.usage;
    case 'ERR_OVERLAY_UNSUPPORTED_PLATFORM':
    case 'ERR_OVERLAY_NATIVE_NOT_FOUND':
    case 'ERR_OVERLAY_NO_MEMORY':
    case 'ERR_OVERLAY_TOO_MANY_FILES':
      return exitCodes.system;
    default:
      return exitCodes.failed;
  }
}

/** `elsewhere`: the same arguments for another mount namespace. */
function parse<const T extends NonNullable<ParseArgsConfig['options']>>(args: readonly string[], options: T) {
  const config = { args: [...args], options, allowPositionals: true, tokens: true } as const;
  const { tokens, ...parsed } = parseArgs(config);
  const elsewhere = tokens.flatMap((token) => {
    if (token.kind === 'positional') return [token.value];
    if (token.kind !== 'option' || token.name === 'namespace') return [];
    return [token.value === undefined ? `--${token.name}` : `--${token.name}=${token.value}`];
  });
  return { ...parsed, elsewhere };
}

const isRemount = (error: unknown) =>
  error instanceof OverlayError && error.code === 'ERR_OVERLAY_REMOUNT_FAILED';

function isParseError(error: unknown): error is Error {
  return error instanceof TypeError && 'code' in error && String(error.code).startsWith('ERR_PARSE_ARGS');
}
