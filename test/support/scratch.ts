/**
 * Ground for tests that mount: a file system of the suite's own, a fresh directory for each test, and the proof afterwards
 * that nothing is left.
 */
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmdirSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, expect } from 'vitest';
import { listOverlays } from '../../lib/index.ts';
import { mount, run, umount } from './commands.ts';
import { describePrivileged } from './needs.ts';
import { pipesBegin } from './python.ts';

export type FileSystem = 'tmpfs' | 'ext4' | 'xfs' | 'btrfs';

/** Every file system that uppers are tested on. */
export const fileSystems: readonly FileSystem[] = ['tmpfs', 'ext4', 'xfs', 'btrfs'];

/** Four directories for one overlay. */
export interface Layers {
  readonly lower: string;
  readonly upper: string;
  readonly work: string;
  readonly target: string;
}

/** The ground of the test that is running. */
export interface Scratch {
  /** This test's own, empty directory. */
  readonly root: string;
  path(...names: readonly string[]): string;
  /** Makes a directory, with its parents. */
  directory(...names: readonly string[]): string;
  /** Makes a file, with its parents. */
  file(name: string, content?: string): string;
  /** Where something is mounted below this test's directory, in mounting order. */
  mounts(): string[];
  /** Makes the directories `lower` (with a file `hello`), `upper`, `work` and `merged`. */
  layers(prefix?: string): Layers;
}

const undo: (() => unknown)[] = [];

/** Takes back, before the check that nothing is left, what a test has arranged: newest first. */
export function afterThisTest(takeBack: () => unknown): void {
  undo.push(takeBack);
}

/** These file systems, or of them the one that OVERLAYFS_TEST_ON names. */
export function chosenFrom(kinds: readonly FileSystem[]): readonly FileSystem[] {
  const chosen = kinds.filter((kind) => kind === process.env.OVERLAYFS_TEST_ON);
  return chosen.length > 0 ? chosen : kinds;
}

/** A privileged suite on each of the file systems. */
export function describeOn(
  kinds: readonly FileSystem[],
  name: string,
  tests: (scratch: Scratch, kind: FileSystem) => void,
): void {
  for (const kind of chosenFrom(kinds))
    describePrivileged(`${name}, on ${kind}`, () => tests(scratchOn(kind), kind));
}

/** Mounts a file system for the suite that this is called in, and watches over each of its tests. */
export function scratchOn(kind: FileSystem = 'tmpfs'): Scratch {
  let base = '';
  let root = '';
  let count = 0;
  let openBefore: readonly string[] = [];

  beforeAll(() => {
    base = mountFileSystem(kind);
  });
  afterAll(() => {
    if (base !== '') unmountFileSystem(base);
  });
  beforeEach(() => {
    root = join(base, `${++count}`);
    mkdirSync(root);
    openBefore = openFiles();
  });
  afterEach(async () => {
    while (undo.length > 0) await undo.pop()?.();
    const left = scratch.mounts();
    for (const point of [...left].reverse()) umount('--lazy', point);
    const own = (await listOverlays()).filter(({ owner }) => owner === 'own');
    expect({ left, own: own.map(({ target }) => target), open: openFiles() }).toEqual({
      left: [],
      own: [],
      open: openBefore,
    });
  });

  const scratch: Scratch = {
    get root() {
      return root;
    },
    path: (...names) => join(root, ...names),
    directory: (...names) => {
      const path = join(root, ...names);
      mkdirSync(path, { recursive: true });
      return path;
    },
    file: (name, content = '') => {
      const path = join(root, name);
      mkdirSync(dirname(path), { recursive: true });
      writeFileSync(path, content);
      return path;
    },
    mounts: () => mountPoints().filter((point) => point.startsWith(`${root}/`)),
    layers: (prefix = '') => {
      scratch.file(join(prefix, 'lower/hello'), 'from the lower');
      return {
        lower: scratch.path(prefix, 'lower'),
        upper: scratch.directory(prefix, 'upper'),
        work: scratch.directory(prefix, 'work'),
        target: scratch.directory(prefix, 'merged'),
      };
    },
  };
  return scratch;
}

/** The mount points of this process's mount namespace, in mounting order; octal escapes undone. */
export function mountPoints(): string[] {
  return readFileSync('/proc/self/mountinfo', 'utf8')
    .trimEnd()
    .split('\n')
    .map((line) => unescapeOctal(line.split(' ')[4] ?? ''));
}

/** What this process has open and did not have from Node.js itself. */
export function openFiles(): string[] {
  return readdirSync('/proc/self/fd')
    .flatMap((fd) => {
      try {
        return [readlinkSync(`/proc/self/fd/${fd}`)];
      } catch {
        return []; // the descriptor of this very listing
      }
    })
    .filter((name) => name.startsWith('/') || name.includes('fscontext'))
    .filter((name) => !/^\/dev\/|\/node_modules\/|\/proc\//.test(name) && !name.includes(pipesBegin))
    .sort();
}

// mkfs.xfs takes no less than 300 MB, mkfs.btrfs no less than 109 MB; the images are sparse.
const images: Readonly<Record<Exclude<FileSystem, 'tmpfs'>, { bytes: number; options: readonly string[] }>> =
  {
    ext4: { bytes: 64 << 20, options: ['-q', '-F'] },
    xfs: { bytes: 320 << 20, options: ['-q', '-f'] },
    btrfs: { bytes: 128 << 20, options: ['-q', '-f'] },
  };

function mountFileSystem(kind: FileSystem): string {
  const folder = mkdtempSync(join(tmpdir(), 'overlayfs-test-'));
  chmodSync(folder, 0o755);
  const point = join(folder, 'mnt');
  mkdirSync(point);
  if (kind === 'tmpfs') {
    mount('-t', 'tmpfs', '-o', 'mode=0755', 'overlayfs-test', point);
  } else {
    const image = join(folder, 'image');
    const { bytes, options } = images[kind];
    writeFileSync(image, '');
    truncateSync(image, bytes);
    run([`mkfs.${kind}`, ...options, image]);
    run(['mount', '-o', 'loop', image, point]);
  }
  mount('--make-private', point);
  return point;
}

function unmountFileSystem(point: string): void {
  try {
    umount('--recursive', point);
  } catch (error) {
    // A test that failed may have left something open: it goes with this process.
    umount('--recursive', '--lazy', point);
    throw error;
  } finally {
    rmdirSync(point);
    rmSync(join(dirname(point), 'image'), { force: true });
    rmdirSync(dirname(point));
  }
}

function unescapeOctal(text: string): string {
  const bytes = text.replace(/\\([0-7]{3})/g, (_, octal: string) =>
    String.fromCharCode(Number.parseInt(octal, 8)),
  );
  return Buffer.from(bytes, 'latin1').toString();
}
