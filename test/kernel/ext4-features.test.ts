// @module-tag vm
/** Features of ext4 that many kernels are built without: fs-verity under metacopy, and directories that fold case. */
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readFileSync,
  truncateSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { expect, it, type TestContext } from 'vitest';
import { mountOverlay } from '../../lib/index.ts';
import { kernelFeatures } from '../../lib/inspect/kernel.ts';
import { run, umount } from '../support/commands.ts';
import { describePrivileged, needsKernel, needsOption } from '../support/needs.ts';
import { pythonNow } from '../support/python.ts';
import { afterThisTest, type Scratch, scratchOn } from '../support/scratch.ts';
import { xattrs } from '../support/snapshot.ts';

describePrivileged('fs-verity (Documentation/filesystems/overlayfs.rst, "fs-verity support")', () => {
  const scratch = scratchOn();

  it('puts the digest of the data into what is copied up without it, and is refused other data', async (context) => {
    await needsOption(context, 'verity', 'require');
    const root = ext4With(context, scratch, 'verity', 'fs-verity');
    const layers = ['lower', 'upper', 'work'].map((name) => folder(root, name));
    const [lower = '', upper = '', work = ''] = layers;
    writeFileSync(`${lower}/file`, 'the data');
    enableVerity(`${lower}/file`);
    const target = scratch.directory('merged');
    const mount = () => mountOverlay({ lower, upper, work, target, metacopy: true, verity: 'require' });

    const overlay = await mount();
    chmodSync(`${target}/file`, 0o600);
    expect(readFileSync(`${target}/file`, 'utf8')).toBe('the data');
    await overlay.unmount();
    // Version 0, 36 bytes, no flags, SHA-256, the digest; and a file of the right size that has no data.
    expect((await xattrs(`${upper}/file`))['trusted.overlay.metacopy']).toMatch(/^00240001[0-9a-f]{64}$/);
    expect(readFileSync(`${upper}/file`)).toEqual(Buffer.alloc(8));

    unlinkSync(`${lower}/file`);
    writeFileSync(`${lower}/file`, 'not that');
    enableVerity(`${lower}/file`);
    await using _ = await mount();
    expect(() => readFileSync(`${target}/file`)).toThrow(/EIO/);
  });

  it('copies the data up where the lower has no digest', async (context) => {
    await needsOption(context, 'verity', 'require');
    const root = ext4With(context, scratch, 'verity', 'fs-verity');
    const [lower = '', upper = '', work = ''] = ['lower', 'upper', 'work'].map((name) => folder(root, name));
    writeFileSync(`${lower}/file`, 'the data');
    const target = scratch.directory('merged');
    await using _ = await mountOverlay({ lower, upper, work, target, metacopy: true, verity: 'require' });
    chmodSync(`${target}/file`, 0o600);
    expect(await xattrs(`${upper}/file`)).not.toHaveProperty('trusted.overlay.metacopy');
    expect(readFileSync(`${upper}/file`, 'utf8')).toBe('the data');
  });
});

describePrivileged('a directory that folds case', () => {
  const scratch = scratchOn();

  it('is refused beside one that does not', async (context) => {
    const root = ext4With(context, scratch, 'casefold', 'case folding');
    const folding = folder(root, 'folding');
    run(['chattr', '+F', folding]);
    const refused = mountOverlay({
      lower: [folding, folder(root, 'plain')],
      target: scratch.directory('merged'),
    });
    // Before 6.5 the kernel keeps to itself what it is about.
    const { nativeParser } = await kernelFeatures();
    const code = nativeParser ? 'ERR_OVERLAY_LAYER_UNSUITABLE' : 'ERR_OVERLAY_MOUNT_FAILED';
    await expect(refused).rejects.toMatchObject({ code, errno: -22 });
  });
});

/** An ext4 with a feature, mounted until the test ends; the test ends at once where the kernel is built without it. */
function ext4With(context: TestContext, { path, directory }: Scratch, feature: string, what: string): string {
  needsKernel(context, existsSync(`/sys/fs/ext4/features/${feature}`), `${what} on ext4`);
  const [image, point] = [path('image'), directory('ext4')];
  writeFileSync(image, '');
  truncateSync(image, 64 << 20);
  run(['mkfs.ext4', '-q', '-F', '-b', '4096', '-O', feature, image]);
  run(['mount', '-o', 'loop', image, point]);
  afterThisTest(() => umount(point));
  return point;
}

function folder(root: string, name: string): string {
  mkdirSync(`${root}/${name}`);
  return `${root}/${name}`;
}

// FS_IOC_ENABLE_VERITY with version 1, SHA-256 and blocks of 4,096 bytes: Documentation/filesystems/fsverity.rst.
const enableVerity = pythonNow<string, null>(`
import fcntl, os, struct
def answer(path):
    fd = os.open(path, os.O_RDONLY)
    try: fcntl.ioctl(fd, 0x40806685, struct.pack('<4I112x', 1, 1, 4096, 0))
    finally: os.close(fd)
`);
