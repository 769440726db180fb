/**
 * Whole trees: built from a description, and read back with everything that a rename or a copy must keep. By Python, so
 * that what the package does is not its own witness.
 */
import { python } from './python.ts';
import { mapTree, type Seen, view } from './view.ts';

/** One file or directory; its parents come before it. */
export interface TreeEntry {
  readonly path: string;
  readonly type: 'directory' | 'file' | 'symlink' | 'fifo' | 'socket' | 'device' | 'link';
  /** A file's text, where a symbolic link leads, or the other name of a hard link. */
  readonly content?: string;
  /** Of a file: where its text begins, behind a hole. */
  readonly offset?: number;
  readonly mode?: number;
  readonly owner?: readonly [uid: number, gid: number];
  /** In hexadecimal. */
  readonly xattrs?: Readonly<Record<string, string>>;
  /** Seconds and nanoseconds. */
  readonly mtime?: readonly [seconds: number, nanoseconds: number];
}

/** What can be seen of one file, but for inode numbers and times of access and change. */
export interface SeenEntry extends Omit<Seen, 'group'> {
  /** Other names of the same file in this tree. */
  readonly links: readonly string[];
}

/** Builds a tree in an existing directory. */
export async function buildTree(root: string, entries: readonly TreeEntry[]): Promise<void> {
  await build([root, entries]);
}

const build = python<[root: string, entries: readonly TreeEntry[]], null>(`
import os, stat

def answer(request):
    root, entries = request
    join = lambda path: os.path.join(root, path)
    for e in entries:
        path, kind, content = join(e['path']), e['type'], e.get('content', '')
        if kind == 'directory': os.mkdir(path)
        elif kind == 'symlink': os.symlink(content, path)
        elif kind == 'link': os.link(join(content), path, follow_symlinks=False)
        elif kind == 'fifo': os.mkfifo(path)
        elif kind == 'device': os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, 3))
        elif kind == 'socket': os.mknod(path, 0o600 | stat.S_IFSOCK)
        else:
            with open(path, 'wb') as file:
                file.seek(e.get('offset', 0))
                file.write(content.encode())
    for e in entries:
        path = join(e['path'])
        if e['type'] == 'link': continue
        if 'owner' in e: os.chown(path, *e['owner'], follow_symlinks=False)
        if 'mode' in e and e['type'] != 'symlink': os.chmod(path, e['mode'])
        for name, value in e.get('xattrs', {}).items():
            os.setxattr(path, name, bytes.fromhex(value), follow_symlinks=False)
    for e in reversed(entries):
        if 'mtime' in e:
            seconds, nanoseconds = e['mtime']
            ns = seconds * 10**9 + nanoseconds
            os.utime(join(e['path']), ns=(ns, ns), follow_symlinks=False)
`);

/** Everything in a directory, by paths relative to it; the directory itself is `.`. */
export async function seeTree(root: string): Promise<Record<string, SeenEntry>> {
  const seen = await view(root);
  const groups = new Map<string | null, string[]>();
  for (const [path, { group }] of Object.entries(seen))
    groups.set(group, [...(groups.get(group) ?? []), path]);
  return mapTree(seen, ({ group, ...entry }, path) => ({
    ...entry,
    links: group === null ? [] : (groups.get(group) ?? []).filter((other) => other !== path).sort(),
  }));
}

const second = 1_000_000_000;

/** One of everything. `user.*` attributes are for files and directories alone: xattr(7). */
export const everything: readonly TreeEntry[] = [
  {
    path: 'plain',
    type: 'file',
    content: 'plain text',
    mode: 0o640,
    owner: [1000, 1001],
    mtime: [second, 1],
  },
  { path: 'setuid', type: 'file', content: '#!', mode: 0o6755, owner: [1000, 0], mtime: [second, 2] },
  {
    path: 'capable',
    type: 'file',
    content: 'x',
    mode: 0o755,
    xattrs: { 'security.capability': '0100000200200000000000000000000000000000', 'user.note': '00ff' },
    mtime: [second, 3],
  },
  { path: 'empty', type: 'file', mode: 0 },
  { path: 'sparse', type: 'file', content: 'end', offset: 3 << 20, mtime: [second, 4] },
  { path: 'deep', type: 'directory', mode: 0o2750, owner: [5, 6], mtime: [second, 5] },
  { path: 'deep/er', type: 'directory', mode: 0o555, xattrs: { 'user.note': '2a' }, mtime: [second, 6] },
  { path: 'deep/er/again', type: 'link', content: 'plain' },
  { path: 'deep/er/leaf', type: 'file', content: 'leaf', mtime: [second, 7] },
  { path: 'empty-directory', type: 'directory', mode: 0o1777, mtime: [second, 8] },
  {
    path: 'acl',
    type: 'directory',
    xattrs: {
      'system.posix_acl_default':
        '0200000001000700ffffffff02000700e803000004000500ffffffff10000700ffffffff20000000ffffffff',
    },
    mtime: [second, 9],
  },
  {
    path: 'acl/inherits-nothing',
    type: 'file',
    content: 'x',
    mode: 0o604,
    mtime: [second, 10],
  },
  { path: 'to-plain', type: 'symlink', content: 'plain', owner: [7, 8], mtime: [second, 11] },
  { path: 'to-nowhere', type: 'symlink', content: '/nowhere/at/all', mtime: [second, 12] },
  { path: 'again-symlink', type: 'link', content: 'to-nowhere' },
  { path: 'fifo', type: 'fifo', mode: 0o620, owner: [9, 9], mtime: [second, 13] },
  { path: 'socket', type: 'socket', mode: 0o777, mtime: [second, 14] },
  { path: 'device', type: 'device', mode: 0o666, mtime: [second, 15] },
  { path: 'weird, \n:\\', type: 'file', content: 'name', mtime: [second, 16] },
];
