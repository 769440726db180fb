/**
 * The options of a mount as flags: each option under its own name in kebab-case.
 * @module
 */
import type { MountFlags, OverlayOptions } from '../overlay/options.ts';
import { type Arguments, type Flags, pathArgument } from './arguments.ts';
import { UsageError } from './usage.ts';

/** What `overlayfs mount` and `overlayfs doctor` take. */
export const mountFlags: Flags = {
  lower: {
    type: 'string',
    short: 'l',
    multiple: true,
    value: 'DIR',
    help: 'a read-only layer; topmost first',
  },
  'data-only-lower': {
    type: 'string',
    multiple: true,
    value: 'DIR',
    help: 'a layer that only holds data for metacopy files',
  },
  upper: { type: 'string', short: 'u', value: 'DIR', help: 'the writable layer; together with --work' },
  work: { type: 'string', short: 'w', value: 'DIR', help: 'an empty directory on the mount of the upper' },
  scratch: {
    type: 'string',
    optional: true,
    value: 'SIZE',
    help: 'a private tmpfs in place of both (64M, 1G)',
  },
  'mkdir-target': { type: 'boolean', help: 'make the target if it is missing' },
  readonly: { type: 'boolean', short: 'r', help: 'a read-only superblock' },
  'allow-single-lower': { type: 'boolean', help: 'add an empty lower where the kernel wants a second' },
  index: { type: 'boolean', help: 'keep hard links whole across copy-up' },
  metacopy: { type: 'boolean', help: 'copy up only metadata when only that changes' },
  userxattr: { type: 'boolean', help: 'attributes in user.overlay.*' },
  'redirect-dir': { type: 'string', value: 'WORD', help: 'on, follow (the default) or nofollow' },
  xino: { type: 'string', value: 'WORD', help: 'on, off (the default) or auto' },
  'nfs-export': { type: 'boolean', help: 'file handles that survive copy-up' },
  uuid: { type: 'string', value: 'WORD', help: 'on, off, null or auto' },
  verity: { type: 'string', value: 'WORD', help: 'on, off or require' },
  volatile: { type: 'boolean', help: 'never sync the upper' },
  option: {
    type: 'string',
    short: 'o',
    multiple: true,
    value: 'KEY[=VALUE]',
    help: 'anything else that the kernel knows; one for each -o',
  },
  noexec: { type: 'boolean', help: 'a flag of the mount, as are the next six' },
  nosuid: { type: 'boolean', help: '' },
  nodev: { type: 'boolean', help: '' },
  noatime: { type: 'boolean', help: '' },
  nodiratime: { type: 'boolean', help: '' },
  relatime: { type: 'boolean', help: '' },
  strictatime: { type: 'boolean', help: '' },
  propagation: { type: 'string', value: 'WORD', help: 'private (the default), slave, shared or unbindable' },
  source: { type: 'string', value: 'TEXT', help: 'what mount tables show as the source' },
  'mount-api': { type: 'string', value: 'WORD', help: 'auto (the default), fsconfig or mount' },
  'check-in-use': {
    type: 'boolean',
    help: 'the default; --no-check-in-use: do not ask whether the upper is in use',
  },
  'remove-volatile-marker': {
    type: 'boolean',
    help: 'remove what a volatile mount left in the work directory',
  },
  strict: { type: 'boolean', help: 'refuse an upper without extended attributes' },
};

const booleans = [
  'mkdir-target',
  'readonly',
  'allow-single-lower',
  'index',
  'metacopy',
  'userxattr',
  'nfs-export',
  'volatile',
  'check-in-use',
  'remove-volatile-marker',
  'strict',
];
const words = ['redirect-dir', 'xino', 'uuid', 'verity', 'propagation', 'source', 'mount-api'];
const ofMount = ['noexec', 'nosuid', 'nodev', 'noatime', 'nodiratime', 'relatime', 'strictatime'] as const;

/** The options that the flags stand for. Their values are checked where those of the library are. */
export function mountOptions(args: Arguments): OverlayOptions {
  const [target] = args.positionals;
  const scratch = args.text('scratch');
  const dataOnlyLower = args.texts('data-only-lower').map(pathArgument);
  const kernelOptions = Object.fromEntries(args.texts('option').map(kernelOption));
  const mountFlagsGiven: MountFlags = Object.fromEntries(given(ofMount, (name) => args.flag(name)));
  const paths = given(['upper', 'work'], (name) => args.text(name)).map(
    ([name, path]) => [name, pathArgument(path)] as const,
  );
  return {
    lower: args.texts('lower').map(pathArgument),
    ...(dataOnlyLower.length === 0 ? {} : { dataOnlyLower }),
    ...Object.fromEntries(
      [
        ...paths,
        ...given(booleans, (name) => args.flag(name)),
        ...given(words, (name) => args.text(name)),
      ].map(([name, value]) => [camelCase(name), value]),
    ),
    ...(scratch === undefined ? {} : { scratch: scratch === '' ? true : { size: byteCount(scratch) } }),
    ...(Object.keys(kernelOptions).length === 0 ? {} : { kernelOptions }),
    ...(Object.keys(mountFlagsGiven).length === 0 ? {} : { mountFlags: mountFlagsGiven }),
    ...(target === undefined ? {} : { target: pathArgument(target) }),
  };
}

function given<T>(names: readonly string[], read: (name: string) => T | undefined): [string, T][] {
  return names.flatMap((name): [string, T][] => {
    const value = read(name);
    return value === undefined ? [] : [[name, value]];
  });
}

function kernelOption(text: string): [string, string | true] {
  const equals = text.indexOf('=');
  return equals < 0 ? [text, true] : [text.slice(0, equals), text.slice(equals + 1)];
}

function byteCount(text: string): bigint {
  const [, digits, unit = ''] = /^(\d+)([kmgt]?)$/i.exec(text) ?? [];
  if (digits === undefined)
    throw new UsageError(`--scratch=${text}: a size is a number, with k, m, g or t behind it`);
  return BigInt(digits) << BigInt(10 * ' kmgt'.indexOf(unit.toLowerCase() || ' '));
}

const camelCase = (name: string) => name.replace(/-(.)/g, (_, letter: string) => letter.toUpperCase());

const optionName = /\b[a-z]+[A-Z][a-zA-Z]*\b/g;

/** Advice that names options as a program has them, in the words of the command line. `flags`: of the command, beside these. */
export function inFlags(text: string, flags: Flags = {}): string {
  const known = { ...mountFlags, ...flags };
  return commandWords
    .reduce((advice, [program, command]) => advice.replaceAll(program, command), text)
    .replace(optionName, (name) => (Object.hasOwn(known, kebabCase(name)) ? `--${kebabCase(name)}` : name));
}

// Longer ones first.
const commandWords = [
  ['listOverlays()', '`overlayfs ls`'],
  ['unmount() of the package', '`overlayfs unmount`'],
  ['check({ repair: true })', '`overlayfs store check --repair`'],
  ['repair: true', '--repair'],
  ['check()', '`overlayfs store check`'],
  ['list()', '`overlayfs store ls`'],
  ["foreign: 'write'", '--foreign write'],
  ['set force', 'set --force'],
] as const;

/** `redirectDir` → `redirect-dir`. */
export function kebabCase(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}
