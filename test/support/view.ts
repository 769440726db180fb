/**
 * A naive read of a tree, as find(1) and cat(1) would: of a mounted overlay, what the kernel says it is.
 */
import { python } from './python.ts';

/** What is known of one path. Two views of the same tree are equal. */
export interface Seen {
  /** The errno's name, where it is listed and cannot be looked at. Nothing else is known then. */
  readonly error?: string;
  /** Of a directory that exists and cannot be listed: the errno's name. */
  readonly unlisted?: string;
  readonly type: 'file' | 'directory' | 'symlink' | 'fifo' | 'socket' | 'block' | 'character';
  /** Permissions and the set-id and sticky bits. */
  readonly mode: number;
  readonly owner: readonly [uid: number, gid: number];
  /** Of files and symbolic links: in bytes. */
  readonly size: number;
  /** In nanoseconds, decimal. */
  readonly mtime: string;
  /** Of device nodes: major and minor number. */
  readonly device: readonly [number, number] | null;
  /** Of a symbolic link, as latin1. */
  readonly target: string | null;
  /** Of a file: a digest, or the errno's name for one that cannot be read. */
  readonly content: string | null;
  /** In hexadecimal, private attributes of overlayfs only where they can be seen. */
  readonly xattrs: Readonly<Record<string, string>>;
  /** Of hard links: the first of their paths in this view; of all else null. */
  readonly group: string | null;
}

/** Paths as latin1, in byte order; the root is `.`. */
export type View = Readonly<Record<string, Seen>>;

/**
 * Everything at and below a directory. What readdir lists and lstat does not find is left out, or with `ghosts` told as
 * ENOENT.
 */
export async function view(path: string, { ghosts = false } = {}): Promise<View> {
  const seen = ({ links: _, blocks: __, flags: ___, ...rest }: Raw): Seen => rest;
  return mapTree(await readTree({ path, ghosts }), seen);
}

/** The same paths with something else made of each. */
export function mapTree<From, To>(
  tree: Readonly<Record<string, From>>,
  make: (entry: From, path: string) => To,
): Record<string, To> {
  return Object.fromEntries(Object.entries(tree).map(([path, entry]) => [path, make(entry, path)]));
}

/** What of it a plain directory can have: not overlayfs's own attributes, nor hard links that are not in the view. */
export function asPlain(found: View): View {
  const names = new Map<string, string[]>();
  for (const [path, { group }] of Object.entries(found)) {
    if (group !== null) names.set(group, [...(names.get(group) ?? []), path]);
  }
  const first = (group: string | null): string | null => {
    const [path = null, ...others] = names.get(group ?? '') ?? [];
    return others.length === 0 ? null : path;
  };
  const plain = ({ xattrs, group, ...rest }: Seen): Seen => ({
    ...rest,
    group: first(group),
    xattrs: Object.fromEntries(
      Object.entries(xattrs).filter(([name]) => !/^(trusted|user)\.overlay\./.test(name)),
    ),
  });
  return mapTree(found, plain);
}

/** Everything, as the other readings of trees are made of. */
export interface Raw extends Seen {
  /** How many names it has, wherever they are. */
  readonly links: number;
  /** Of files, in units of 512 bytes. */
  readonly blocks: number;
  /** Of files and directories, where they are asked for: append-only and no-atime (ioctl_iflags(2)). */
  readonly flags: number;
}

/** The same with all that lstat(2) tells. `flags`: opens every file, which copies nothing up. */
export const readTree: (request: {
  path: string;
  ghosts?: boolean;
  flags?: boolean;
}) => Promise<Record<string, Raw>> = python(`
import errno, fcntl, hashlib, os, stat, struct

types = {stat.S_IFREG: 'file', stat.S_IFDIR: 'directory', stat.S_IFLNK: 'symlink', stat.S_IFIFO: 'fifo',
         stat.S_IFSOCK: 'socket', stat.S_IFBLK: 'block', stat.S_IFCHR: 'character'}

def content(path):
    try:
        with open(path, 'rb') as file: return hashlib.sha256(file.read()).hexdigest()
    except OSError as error: return errno.errorcode[error.errno]

def xattrs(path):
    try: names = os.listxattr(path, follow_symlinks=False)
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP: raise
        names = []
    return {name: os.getxattr(path, name, follow_symlinks=False).hex() for name in sorted(names)}

def flags(path):
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try: return struct.unpack('<q', fcntl.ioctl(fd, 0x80086601, bytes(8)))[0] & 0xa0
    finally: os.close(fd)

def entry(path, st, groups, name, request):
    kind = types[stat.S_IFMT(st.st_mode)]
    group = groups.setdefault((st.st_dev, st.st_ino), name) if kind != 'directory' and st.st_nlink > 1 else None
    return dict(type=kind, mode=stat.S_IMODE(st.st_mode), owner=[st.st_uid, st.st_gid],
                size=st.st_size if kind in ('file', 'symlink') else 0, mtime=str(st.st_mtime_ns),
                device=[os.major(st.st_rdev), os.minor(st.st_rdev)] if kind in ('block', 'character') else None,
                target=os.readlink(path).decode('latin1') if kind == 'symlink' else None,
                content=content(path) if kind == 'file' else None, xattrs=xattrs(path), group=group, links=st.st_nlink,
                blocks=st.st_blocks if kind == 'file' else 0,
                flags=flags(path) if request.get('flags') and kind in ('file', 'directory') else 0)

def answer(request):
    root = os.fsencode(request['path'])
    found, groups = {}, {}
    def visit(path, name):
        try: st = os.lstat(path)
        except OSError as error:
            if name == '.': raise
            if error.errno != errno.ENOENT or request.get('ghosts'): found[name] = dict(error=errno.errorcode[error.errno])
            return
        found[name] = entry(path, st, groups, name, request)
        if not stat.S_ISDIR(st.st_mode): return
        try: children = sorted(os.listdir(path))
        except OSError as error:
            found[name]['unlisted'] = errno.errorcode[error.errno]
            return
        for child in children:
            shown = child.decode('latin1')
            visit(os.path.join(path, child), shown if name == '.' else name + '/' + shown)
    visit(root, '.')
    return dict(sorted(found.items()))
`);
