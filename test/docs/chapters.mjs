// What docs/how-it-works.md tells, chapter by chapter. What is printed under a command is what it has really done.
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { lstatSync } from 'node:fs';
import { rename } from 'node:fs/promises';
import { sameFiles, storeFiles } from './store-files.mjs';

const build = {
  base: 'mkdir etc; echo base > etc/issue; echo base > etc/motd',
  app: 'mkdir etc srv; echo app > etc/motd; echo one > srv/a; echo two > srv/b',
};
const MiB = 1 << 20;
const big = { ...build, app: 'dd if=/dev/zero of=big bs=1M count=4 status=none' };

export const chapters = [
  {
    title: '# How reads and writes work in a container layer',
    text: `
<!-- Written by \`npm run docs:how-it-works\`; a test runs it and compares. Change test/docs/chapters.mjs instead. -->

A container's file system is an overlay: the image's layers, which are only read, below one layer that gets every change.
The kernel calls the first *lowers* and the second *upper*; the mount shows both as one tree, *merged*.

Everything on this page has been done to real layers, each time to a new container on the same image of two layers,
\`app\` on \`base\`. Lines that begin with \`$\` are commands in the container, those with \`>\` are calls of this package, and below
each is what it printed. Then, for each path, what lies in each layer of it, in the container's before and after. The image's
layers were compared with what they had been: nothing had ever changed in them.

The rules are the kernel's: <https://docs.kernel.org/filesystems/overlayfs.html>.`,
  },
  {
    title: '## What lies on disk',
    build,
    text: `
The storage driver \`overlay2\` keeps each layer's own content in \`diff\`. \`l\` has a short name for each layer, which keeps what is
handed to mount(2) short; \`link\` is a layer's own short name, \`lower\` has those of all that lie below it, topmost first.
\`committed\` says that a layer has a child and must not change any more. (The short names are random; here they are those of
the layers. \`overlayfs.json\` and \`.overlayfs\` are this package's own, and Docker takes no notice of them.)`,
    tell: storeFiles,
  },
  {
    title: '## Reading',
    build,
    prepare: 'echo container > etc/motd; echo mine > srv/new',
    steps: ['cat etc/issue', 'cat srv/new', 'cat etc/motd'],
    paths: ['etc', 'etc/issue', 'etc/motd', 'srv', 'srv/new'],
    text: `
A file that is only in the image is read from there. One that is only in the container is read from the container. Of one
that is in both the container's is read, and hides the image's; so does a layer of the image with the layers below it.`,
    after: `
Nothing was copied: reading costs what it costs in the layer. A name is looked for in one layer after the other, from the top,
so that many layers make a look-up slower, but only the first one.`,
  },
  {
    title: '## The first write copies the whole file',
    build: big,
    steps: [
      { js: "await overlay.whichLayer('big')", run: whereIs('big') },
      'printf x | dd of=big conv=notrunc status=none',
      { js: "await overlay.whichLayer('big')", run: whereIs('big') },
      { js: "lstat('big') in the container layer", run: remember },
    ],
    paths: ['big'],
    text: `
The first time that a container writes to a file of the image, the kernel copies it into the container layer (*copy-up*), all
of it, although one byte is written. It happens when the file is opened for writing.`,
  },
  {
    title: '## … and only the first',
    build: big,
    prepare: 'printf x | dd of=big conv=notrunc status=none',
    steps: [
      { js: "lstat('big') in the container layer", run: remember },
      'printf yz | dd of=big bs=1 seek=2000000 conv=notrunc status=none',
      { js: "lstat('big') in the container layer", run: remember },
    ],
    paths: ['big'],
    text: `
What is written later goes to the copy: it is the same file as before, and nothing is copied again.`,
  },
  {
    title: '## Copying up ahead of time',
    build: big,
    steps: [
      { js: "await overlay.copyUp('big')", run: copyUp('big') },
      { js: "await overlay.copyUp('big')", run: copyUp('big') },
    ],
    paths: ['big'],
    text: `
Where the first write must not be the slow one, \`copyUp()\` has the kernel copy the file before. Each call is told on the channel
\`overlayfs:copy-up\`; a file that is in the container already is left alone.`,
  },
  {
    title: '## A copy-up that copies nothing',
    build: big,
    fileSystem: 'xfs',
    steps: [
      { js: "await overlay.copyUp('big')", run: copyUp('big') },
      { js: "await store.usage('container', { shared: true })", run: usage },
    ],
    paths: ['big'],
    text: `
On a file system with reflinks (here xfs; btrfs has them too, ext4 and tmpfs have not) the copy shares its data with the
image's file until one of them is written to.`,
  },
  {
    title: '## Changing only permissions copies the file too',
    build,
    steps: ['chmod 600 srv/a'],
    paths: ['srv', 'srv/a'],
    text: `
So do chown, setting attributes, and giving it another name by link(2). A directory is copied without what it holds.`,
  },
  {
    title: '## Deleting a file',
    build,
    steps: ['rm etc/issue', 'ls etc'],
    paths: ['etc', 'etc/issue'],
    text: `
The image cannot be changed, so the container notes that the name is gone: a *whiteout*, a character device with the number
0:0. The mount shows neither it nor what it hides.`,
  },
  {
    title: '## Deleting a directory',
    build,
    steps: ['rm -r srv', 'ls'],
    paths: ['srv', 'srv/a', 'srv/b'],
    text: `
This leaves one whiteout in place of the directory. Some descriptions of Docker's driver say that it leaves an *opaque
directory*: it does not. That comes when the directory is made again.`,
  },
  {
    title: '## Making a deleted directory again',
    build,
    steps: ['rm -r srv', 'mkdir srv', 'echo three > srv/c', 'ls srv'],
    paths: ['srv', 'srv/a', 'srv/b', 'srv/c'],
    text: `
The new directory must not show what the old one held. The kernel marks it as *opaque*: the attribute
\`trusted.overlay.opaque\` with the value \`y\` (inside a user namespace it is \`user.overlay.opaque\`).`,
  },
  {
    title: '## Making a deleted file again',
    build,
    steps: ['rm srv/a', 'echo new > srv/a', 'cat srv/a'],
    paths: ['srv', 'srv/a'],
    text: `
The new file takes the place of the whiteout, and hides the image's as any file does.`,
  },
  {
    title: '## What was only in the container leaves nothing',
    build,
    prepare: 'echo mine > srv/new',
    steps: ['rm srv/new'],
    paths: ['srv', 'srv/new'],
    text: `
There is nothing in the image that a whiteout would have to hide.`,
  },
  {
    title: '## Renaming a file',
    build,
    steps: ['mv srv/a srv/z'],
    paths: ['srv', 'srv/a', 'srv/z'],
    text: `
A file of the image is copied up first, and then renamed in the container; its old name becomes a whiteout.`,
  },
  {
    title: '## Renaming a directory of the image',
    build,
    steps: [
      { js: "await rename('srv', 'www')", run: renameIn('srv', 'www') },
      { js: "await overlay.rename('srv', 'www')", run: renameWhole('srv', 'www') },
      'ls www',
    ],
    paths: ['srv', 'srv/a', 'srv/b', 'www', 'www/a', 'www/b'],
    text: `
rename(2) of a directory is allowed only where it lies in the container layer alone. Otherwise it fails with \`EXDEV\`, and programs
like mv(1) then copy file by file. \`overlay.rename()\` completes it: the directory is copied under a name that nobody
sees, and put in place when it is whole.`,
  },
  {
    title: '## Renaming a directory of the container',
    build,
    prepare: 'mkdir new; echo mine > new/file',
    steps: [{ js: "await rename('new', 'renamed')", run: renameIn('new', 'renamed') }],
    paths: ['new', 'new/file', 'renamed', 'renamed/file'],
    text: `
This one lies in the container layer alone, and the kernel simply renames it.`,
  },
  {
    title: '## The legacy driver',
    build,
    driver: 'overlay',
    text: `
Docker's first driver, \`overlay\`, was made for kernels that stack one lower alone. Each layer of an image is a whole tree, \`root\`:
its directories are its own, its files are hard links to those of the layer below, and what the layer changes is put in
their place. A container has \`upper\` and \`work\`, and \`lower-id\` names the one tree below it. (\`diff\` is this package's own:
what the layer has changed.)`,
    tell: storeFiles,
  },
  {
    title: '### Which files are the same',
    build,
    driver: 'overlay',
    text: `
What is in both trees takes no room twice, but for the directories: with many layers they take many inodes. And a file
must never be changed in place, since it would change in every layer that has it.`,
    tell: sameFiles,
    after: `
In the container reading, writing, deleting and renaming are what they are above: what differs is that only one layer has to be
looked at.`,
  },
];

function whereIs(path) {
  return async ({ overlay }) => {
    const { layer, index } = (await overlay.whichLayer(path)).place;
    return [layer === 'upper' ? 'the upper' : `lower[${index}]`];
  };
}

// The inode's number itself would differ from run to run.
let first;
async function remember({ upper }) {
  const { ino, size, blocks } = lstatSync(`${upper}/big`);
  const known = ino === first;
  first = ino;
  const allocated = `${(blocks * 512) / MiB} MiB allocated`;
  return [`${size} bytes, ${allocated}${known ? ', the same inode as before' : ''}`];
}

function copyUp(path) {
  return async ({ overlay }) => {
    const events = [];
    const heard = ({ entries, bytes }) =>
      events.push(`overlayfs:copy-up: entries ${entries}, bytes ${bytes}`);
    subscribe('overlayfs:copy-up', heard);
    try {
      const [{ method, bytes, reason }] = await overlay.copyUp(path);
      const why = reason === undefined ? '' : `, ${reason}`;
      return [`method ${method}, bytes ${bytes}${why}`, ...events];
    } finally {
      unsubscribe('overlayfs:copy-up', heard);
    }
  };
}

async function usage({ store }) {
  const { apparent, shared } = await store.usage('container', { shared: true });
  return [`apparent ${apparent}, shared.reflinked ${shared.reflinked}`];
}

function renameIn(from, to) {
  return async ({ overlay }) => {
    try {
      await rename(overlay.path(from), overlay.path(to));
      return ['done'];
    } catch (error) {
      return [`${error.code}: ${error.message.split(': ')[1].split(',')[0]}`];
    }
  };
}

function renameWhole(from, to) {
  return async ({ overlay }) => {
    const { method, entries, bytes } = await overlay.rename(from, to);
    return [`method ${method}, entries ${entries}, bytes ${bytes}`];
  };
}
