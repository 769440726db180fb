/** What the layers of the peers' tests hold, and what is done in a container on top of them. */
import { execFileSync } from 'node:child_process';
import type { LayerStore } from '../../../lib/store/index.ts';
import { buildTree, everything, type TreeEntry } from '../described-tree.ts';
import type { Scratch } from '../scratch.ts';
import { describeImage, type Image } from './image.ts';

/** Whole seconds, as archives have them. */
const mtime = [1_000_000_000, 0] as const;
const file = (path: string, content = 'old\n'): TreeEntry => ({
  path,
  type: 'file',
  content,
  mode: 0o644,
  mtime,
});
const directory = (path: string, mode = 0o755): TreeEntry => ({ path, type: 'directory', mode, mtime });
const symlink = (path: string, content: string): TreeEntry => ({ path, type: 'symlink', content, mtime });

const applets = 'cat chmod chown ln mkdir mkfifo mv rm sleep touch'.split(' ');

const base: readonly TreeEntry[] = [
  ...['bin', 'data', 'dev', 'etc', 'proc', 'root', 'run', 'sys'].map((path) => directory(path)),
  directory('tmp', 0o1777),
  ...applets.map((name) => symlink(`bin/${name}`, 'busybox')),
  file('etc/passwd', 'root:x:0:0:root:/root:/bin/sh\n'),
  file('etc/group', 'root:x:0:\n'),
  // What a container's engine mounts over is there.
  ...['hosts', 'hostname', 'resolv.conf'].map((name) => file(`etc/${name}`, '')),
  file('root/first'),
  file('root/second'),
  // Archives hold no sockets, and Docker's legacy driver fails where a layer does.
  ...everything
    .filter(({ type }) => type !== 'socket')
    .map(({ path, type, content, ...rest }) => ({
      ...rest,
      type,
      path: `data/${path}`,
      ...(content === undefined ? {} : { content: type === 'link' ? `data/${content}` : content }),
    })),
  // A byte that is not UTF-8, as Python has it.
  file('data/odd \udcff name'),
  directory('cases'),
  ...[
    'written',
    'opened',
    'moded',
    'retimed',
    'same',
    'owned',
    'marked',
    'gone',
    'moved',
    'turned',
    'grown',
  ].map((name) => file(`cases/${name}`)),
  ...['tree', 'remade', 'moved-tree', 'flattened', 'touched', 'moded-tree'].flatMap((name) => [
    directory(`cases/${name}`),
    file(`cases/${name}/inside`),
  ]),
  file('cases/one'),
  { path: 'cases/two', type: 'link', content: 'cases/one' },
  // What the next layer takes away.
  file('lost'),
  directory('lost-tree'),
  file('lost-tree/inside'),
  directory('hidden'),
  file('hidden/old'),
  directory('turns'),
  file('turns/inside'),
];

const next: readonly TreeEntry[] = [
  { ...directory('hidden'), xattrs: { 'trusted.overlay.opaque': '79' } },
  file('hidden/new'),
  file('turns', 'a file now\n'),
  directory('data'),
  file('data/plain', 'of the next layer\n'),
  { ...file('data/suid'), mode: 0o4755 },
];
const whiteouts = ['lost', 'lost-tree', 'data/to-nowhere'];

/** What the change script does not do: no applet of busybox sets attributes. */
export const attribute = { path: 'cases/marked', xattrs: { 'user.note': 'a note' } } as const;

/** What is done in a container, a line of shell each. */
export const acts: readonly string[] = `echo newer > written
: >> opened
chmod 600 moded
touch retimed
echo new > same; touch -d @1000000000 same
chown 12:34 owned
rm gone
mv moved moved-to
rm turned; ln -s written turned
rm grown; mkdir grown; echo > grown/inside
rm -r tree
rm -r remade; mkdir remade; echo > remade/new
mv moved-tree moved-tree-to
rm -r flattened; echo > flattened
touch touched
chmod 700 moded-tree
echo newer >> one
ln /data/empty linked
mkfifo fifo
mkdir made; echo > made/inside
echo > brief; rm brief
echo > "$(printf 'caf\\303\\251')"; echo > "$(printf 'odd\\377')"
rm -rf /root; mkdir /root`.split('\n');

/** Has a shell in a container do these. */
export const doing = (lines: readonly string[]): readonly string[] => [
  '/bin/sh',
  '-euc',
  ['cd /cases', ...lines].join('\n'),
];

/** Makes the directories `content/base` and `content/next`. */
export async function makeContents(
  scratch: Scratch,
): Promise<{ readonly base: string; readonly next: string }> {
  const made = { base: scratch.directory('content/base'), next: scratch.directory('content/next') };
  await buildTree(made.base, base);
  const shell = 'cp /bin/busybox "$1/busybox"; ln "$1/busybox" "$1/sh"';
  execFileSync('sh', ['-euc', shell, 'sh', `${made.base}/bin`]);
  await buildTree(made.next, next);
  for (const path of whiteouts) execFileSync('mknod', [`${made.next}/${path}`, 'c', '0', '0']);
  return made;
}

/** Makes base ← next in an empty store, and says what image they are. */
export async function storeImage(store: LayerStore, scratch: Scratch, name: string): Promise<Image> {
  const made = await makeContents(scratch);
  await store.create('base', { kind: 'image' });
  await store.apply('base', made.base);
  await store.create('next', { kind: 'image', parent: 'base' });
  await store.apply('next', made.next);
  return describeImage(name, [
    { id: 'base', directory: made.base },
    { id: 'next', directory: made.next },
  ]);
}
