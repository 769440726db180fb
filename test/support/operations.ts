/**
 * What people do to files, drawn at random and done to a real mounted overlay; and stacks whose layers were made so, the
 * uppers of earlier mounts among them.
 */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { mountOverlay, type OverlayOptions } from '../../lib/index.ts';
import { removeTree } from './commands.ts';
import { python } from './python.ts';

/**
 * One operation. `on` and `to` pick from what exists when it is carried out: the same numbers name the same files each
 * time. What the kernel refuses is as good as any other outcome.
 */
export interface Operation {
  readonly do: (typeof kinds)[number];
  readonly on: number;
  readonly to: number;
  /** Of what is made. */
  readonly name: string;
  /** Sizes, contents, modes, owners and times. */
  readonly value: number;
}

const kinds = [
  'create',
  'mkdir',
  'symlink',
  'link',
  'mknod',
  'write',
  'truncate',
  'chmod',
  'chown',
  'utimes',
  'setxattr',
  'removexattr',
  'rename',
  'rename-directory',
  'rename-over',
  'exchange',
  'unlink',
  'rmdir',
  'remove-tree',
  'replace',
  'mkdir-over-whiteout',
  'copy-up',
] as const;
// What most else rests on is drawn more often.
const often = ['create', 'mkdir', 'rename-directory', 'rename-directory', 'exchange', 'write'] as const;
const names = ['a', 'b', 'c', 'd', 'e\xff'];

/** One operation. */
export const operation: fc.Arbitrary<Operation> = fc.record({
  do: fc.constantFrom(...kinds, ...often),
  on: fc.nat(63),
  to: fc.nat(63),
  name: fc.constantFrom(...names),
  value: fc.nat(255),
});

/** What is done to one layer. */
export const operations = (most = 20): fc.Arbitrary<Operation[]> =>
  fc.array(operation, { minLength: 1, maxLength: most, size: 'max' });

/** What is done to each layer of a stack, lowest first: that of the upper is the last. The lowest is not empty before. */
export const rounds = (most = 4): fc.Arbitrary<Operation[][]> =>
  fc.array(operations(), { minLength: 2, maxLength: most + 1, size: 'max' });

/** How the layers of a stack are written and read. */
export interface Configuration {
  readonly name: string;
  /** Of every mount that writes them. */
  readonly written: Partial<OverlayOptions>;
  /** Of the mount that is looked at, where they differ. */
  readonly read?: Partial<OverlayOptions>;
  /** All lowers but the last are mounted, and that mount is the lower. */
  readonly nested?: boolean;
}

/** Those that layers are commonly written with, and read as they were written. */
export const configurations: readonly Configuration[] = [
  { name: 'plain', written: {} },
  { name: 'redirectDir on', written: { redirectDir: 'on' } },
  { name: 'metacopy on', written: { metacopy: true } },
  { name: 'index on', written: { index: true } },
  { name: 'xino on', written: { xino: 'on' } },
  { name: 'userxattr', written: { userxattr: true } },
  { name: 'a nested overlay as lower', written: { redirectDir: 'on' }, nested: true },
  {
    name: 'everything on',
    written: { redirectDir: 'on', metacopy: true, index: true, xino: 'on' },
  },
];

/**
 * An attribute of overlayfs, set by hand on something in a layer: what an image, another tool or an attacker may have left
 * there, much of it malformed.
 */
export interface Artefact {
  readonly on: number;
  readonly xattr: keyof typeof artefactValues;
  readonly value: string;
}

const artefactValues = {
  redirect: [
    ...['a', 'f', 'b', 'd', 'nothing', '/a', '/a/b', '/d/a', '/f', '/a/f', '/d/symlink', '/nothing/at/all'],
    ...[
      '',
      '/',
      '//a',
      '/a/',
      'a/b',
      '.',
      '..',
      '/a/../d',
      '/a/./b',
      'a\0b',
      '\0',
      '/d/symlink/f',
      'x'.repeat(300),
    ],
  ],
  opaque: ['y', 'x', 'n', 'yy', ''],
  metacopy: ['', '\0\u0004\0\0', '\0\u0001', 'abc', '\u0001\u0004\0\0'],
  whiteout: ['', 'y'],
} as const;

/** One of them. */
export const artefact: fc.Arbitrary<Artefact> = fc
  .constantFrom('redirect', 'redirect', 'opaque', 'metacopy', 'whiteout')
  .chain((xattr) =>
    fc.record({
      on: fc.nat(63),
      xattr: fc.constant(xattr),
      value: fc.constantFrom(...artefactValues[xattr]),
    }),
  );

/** Sets attributes on what lies in a layer, which must not be mounted. */
export function scatter(layer: string, artefacts: readonly Artefact[]): Promise<unknown> {
  return carryOut({ directory: layer, sequence: [], artefacts });
}

/** Makes the tree that random layers begin with in a directory, and carries operations out on it. */
export function populate(directory: string, sequence: readonly Operation[]): Promise<readonly Done[]> {
  return carryOut({ directory, sequence, populate: true });
}

/** What an operation came to: how it was carried out, and the errno's name where it was refused. */
export type Done = readonly [what: string, error: string | null];

/** Carries operations out on a directory, in order. */
export function operate(directory: string, sequence: readonly Operation[]): Promise<readonly Done[]> {
  return carryOut({ directory, sequence });
}

/** The directories of an overlay whose lowers have been made. */
export interface MadeLayers {
  /** Topmost first, as mounts take them. */
  readonly lower: readonly string[];
  /** Empty, as are the next two. */
  readonly upper: string;
  readonly work: string;
  readonly target: string;
}

/**
 * Makes the lowers of a stack in `root`, a directory that is made and removed again: the first from operations on a plain
 * directory, each other the upper of a mount over those before.
 */
export async function withLowers(
  root: string,
  { written, nested = false }: Configuration,
  sequences: readonly (readonly Operation[])[],
  use: (layers: MadeLayers) => Promise<void>,
): Promise<void> {
  try {
    const lower = await makeLowers(root, written, sequences);
    const top = directories(root, 'top');
    if (!nested) {
      await use({ lower, ...top });
      return;
    }
    const { target } = directories(root, 'nested');
    await using _ = await mountOverlay({ ...written, lower, target, allowSingleLower: true });
    await use({ lower: [target], ...top });
  } finally {
    // Whatever is mounted still is not removed.
    removeTree(root);
  }
}

async function makeLowers(
  root: string,
  written: Configuration['written'],
  sequences: readonly (readonly Operation[])[],
): Promise<string[]> {
  const lower: string[] = [];
  for (const [number, sequence] of sequences.entries()) {
    const { upper, work, target } = directories(root, `${number}`);
    lower.unshift(upper);
    if (number === 0) {
      await populate(upper, sequence);
    } else {
      await using _ = await mountOverlay({ ...written, lower: lower.slice(1), upper, work, target });
      await operate(target, sequence);
    }
  }
  return lower;
}

function directories(root: string, name: string): Pick<MadeLayers, 'upper' | 'work' | 'target'> {
  const made = (role: string) => {
    const path = join(root, name, role);
    mkdirSync(path, { recursive: true });
    return path;
  };
  return { upper: made('upper'), work: made('work'), target: made('target') };
}

interface Request {
  readonly directory: string;
  readonly sequence: readonly Operation[];
  readonly populate?: boolean;
  readonly artefacts?: readonly Artefact[];
}

const carryOut = python<Request, readonly Done[]>(`
import ctypes, errno, os, shutil, stat

libc = ctypes.CDLL(None, use_errno=True)
AT_FDCWD, RENAME_EXCHANGE = -100, 2

def exchange(a, b):
    if libc.renameat2(AT_FDCWD, a, AT_FDCWD, b, RENAME_EXCHANGE) != 0: raise OSError(ctypes.get_errno(), 'renameat2')

def all_below(root):
    found = []
    def visit(path):
        for name in sorted(os.listdir(path)):
            child = os.path.join(path, name)
            try: st = os.lstat(child)
            except OSError: continue
            found.append((child, st))
            if stat.S_ISDIR(st.st_mode): visit(child)
    visit(root)
    return found

class Nothing(Exception): pass

def pick(number, candidates):
    if not candidates: raise Nothing()
    return candidates[number % len(candidates)]

def data(value, size): return bytes((value * 7 + i) % 251 for i in range(size))

def put(path, value):
    with open(path, 'xb') as file: file.write(data(value, value * 37))

def remove(path, st):
    if stat.S_ISDIR(st.st_mode): shutil.rmtree(path)
    else: os.unlink(path)

def populate(root):
    for name in (b'a', b'a/b', b'a/b/c', b'd', b'd/a'): os.mkdir(os.path.join(root, name))
    for value, name in enumerate((b'f', b'a/f', b'a/b/f', b'a/b/c/f', b'd/a/f')): put(os.path.join(root, name), 3 + value)
    put(os.path.join(root, b'empty'), 0)
    os.link(os.path.join(root, b'a/f'), os.path.join(root, b'd/link'))
    os.link(os.path.join(root, b'a/f'), os.path.join(root, b'link'))
    os.symlink(b'a/f', os.path.join(root, b'd/symlink'))

def made(kind, path, value):
    kind = kind % 4
    if kind == 0: put(path, value)
    elif kind == 1: os.mkdir(path)
    elif kind == 2: os.symlink(b'to-%d' % value, path)
    else: os.mknod(path, stat.S_IFIFO | 0o600)

def carry_out(root, one, entries):
    kind, on, to, value = one['do'], one['on'], one['to'], one['value']
    directories = [root] + [path for path, st in entries if stat.S_ISDIR(st.st_mode)]
    files = [path for path, st in entries if stat.S_ISREG(st.st_mode)]
    new = lambda number: os.path.join(pick(number, directories), one['name'].encode('latin1'))
    name = lambda path: os.path.relpath(path, root).decode('latin1')
    if kind in ('create', 'mkdir', 'symlink', 'mknod'):
        path = new(on)
        if kind == 'create': put(path, value)
        elif kind == 'mkdir': os.mkdir(path)
        elif kind == 'symlink': os.symlink(b'to-%d' % value, path)
        else:
            types = [stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR, stat.S_IFBLK]
            os.mknod(path, types[value % 4] | 0o640, os.makedev(1, 3) if value % 4 > 1 else 0)
        return name(path)
    if kind in ('write', 'truncate'):
        path = pick(on, files)
        with open(path, 'r+b') as file:
            if kind == 'truncate': file.truncate(value * 17)
            else: file.write(data(value, 1 + value))
        return name(path)
    if kind in ('rmdir', 'rename-directory'):
        path = pick(on, directories[1:])
        if kind == 'rmdir':
            os.rmdir(path)
            return name(path)
        also = new(to)
        os.rename(path, also)
        return name(path) + ' ' + name(also)
    path, st = pick(on, entries)
    link = stat.S_ISLNK(st.st_mode)
    also = ''
    if kind == 'link' or kind == 'unlink':
        path = pick(on, [path for path, st in entries if not stat.S_ISDIR(st.st_mode)])
        if kind == 'unlink': os.unlink(path)
        else:
            also = new(to)
            os.link(path, also, follow_symlinks=False)
    elif kind == 'chmod':
        if link: raise Nothing()
        os.chmod(path, [0o644, 0o600, 0o755, 0o4755, 0o2750, 0o1777, 0][value % 7])
    elif kind == 'chown': os.chown(path, [0, 1000, 65534][value % 3], [0, 100][value % 2], follow_symlinks=False)
    elif kind == 'utimes': os.utime(path, ns=(10**18 + value, 10**18 + value * 10**9 + value % 3), follow_symlinks=False)
    elif kind in ('setxattr', 'removexattr'):
        attribute = ('user.' if stat.S_ISREG(st.st_mode) or stat.S_ISDIR(st.st_mode) else 'trusted.') + 'xy'[value % 2]
        if kind == 'setxattr': os.setxattr(path, attribute, data(value, value % 40), follow_symlinks=False)
        else: os.removexattr(path, attribute, follow_symlinks=False)
    elif kind == 'rename':
        also = new(to)
        os.rename(path, also)
    elif kind in ('rename-over', 'exchange'):
        also = pick(to, entries)[0]
        (os.rename if kind == 'rename-over' else exchange)(path, also)
    elif kind == 'remove-tree': remove(path, st)
    elif kind == 'replace':
        remove(path, st)
        made(to, path, value)
    elif kind == 'mkdir-over-whiteout':
        remove(path, st)
        os.mkdir(path)
        if value % 2: put(os.path.join(path, one['name'].encode('latin1')), value)
    elif kind == 'copy-up':
        if stat.S_ISREG(st.st_mode): os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
        else: os.utime(path, ns=(st.st_atime_ns, st.st_mtime_ns), follow_symlinks=False)
    return name(path) + (' ' + name(also) if also else '')

def set_artefact(one, entries):
    # None of them on what another file system would not let have one, and whiteouts only where they are such. Hard links of a
    # metacopy file have the data of the one that the kernel has looked up first.
    if one['xattr'] == 'metacopy': fit = lambda st: stat.S_ISREG(st.st_mode) and st.st_nlink == 1
    if one['xattr'] == 'redirect': fit = lambda st: stat.S_ISREG(st.st_mode) or stat.S_ISDIR(st.st_mode)
    if one['xattr'] == 'whiteout': fit = lambda st: stat.S_ISREG(st.st_mode) and st.st_size == 0
    if one['xattr'] == 'opaque': fit = lambda st: stat.S_ISDIR(st.st_mode)
    path, st = pick(one['on'], [entry for entry in entries if fit(entry[1])])
    os.setxattr(path, 'trusted.overlay.' + one['xattr'], one['value'].encode('latin1'), follow_symlinks=False)

def answer(request):
    root = os.fsencode(request['directory'])
    done = []
    for one in request.get('artefacts', []):
        try: set_artefact(one, all_below(root))
        except Nothing: pass
    if request.get('populate'): populate(root)
    for one in request['sequence']:
        try: done.append((one['do'] + ' ' + carry_out(root, one, all_below(root)), None))
        except Nothing: done.append((one['do'], 'nothing to do it to'))
        except (OSError, shutil.Error) as error:
            done.append((one['do'], errno.errorcode.get(getattr(error, 'errno', None), str(error))))
    return done
`);
