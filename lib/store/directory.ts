/**
 * The root directory of a store, held open: reading it, changing it step by step, and its locks.
 * @module
 */
import { constants } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { binding } from '../addon.ts';
import { overlayError } from '../errors.ts';
import type { Binding, NativeDirectories, NativeOpened, NativeStoreFailure } from '../native/binding.ts';
import { isNativeError } from '../native-errors.ts';
import { exactString, showPath } from '../paths.ts';
import type { PathLike } from '../types.ts';
import { decodeEntries, decodeNames, type Entry, type Name } from './entry.ts';
import { explainStore, layerDamaged } from './errors.ts';
import type { Step } from './steps.ts';

/** No file that belongs to a store is larger: 500 parents with ids of 255 bytes are 128 kB. */
const LARGEST_FILE = 1 << 20;
const { EWOULDBLOCK } = constants.errno;

/** A lock that is held until it is released. */
export interface HeldLock extends Disposable {
  release(): void;
}

/** A directory below which a store does everything: by names alone, never through a symbolic link or a mount. */
export class StoreDirectory {
  readonly path: Buffer;
  readonly #fd: number;
  readonly #opened: NativeDirectories['opened'];
  readonly #lockTimeout: number;

  constructor(path: Buffer, directories: NativeDirectories, lockTimeout: number) {
    const [fd] = directories.fds;
    this.path = path;
    this.#fd = fd as number;
    this.#opened = directories.opened;
    this.#lockTimeout = lockTimeout;
  }

  /** For people. */
  get shown(): string {
    return showPath(this.path);
  }

  get ref(): number {
    return this.#fd;
  }

  /** The absolute path of something in it, in bytes. */
  bytesOf(name: string): Buffer {
    return Buffer.concat([this.path, Buffer.from(`/${name}`)]);
  }

  /** The same as a string, where one stands for it. */
  pathOf(name: string): PathLike {
    const bytes = this.bytesOf(name);
    return exactString(bytes) ?? bytes;
  }

  /** What stands at each of these paths, in one go. */
  async read(paths: readonly string[]): Promise<Entry[]> {
    return this.#read(packedPaths(paths));
  }

  /** What has these names in each of these directories, one directory after the other, in one go. */
  async readIn(directories: readonly string[], names: readonly string[]): Promise<Entry[]> {
    // Of thousands: `a/x`, `a/y`, `b/x` … without a string for each.
    const ends = names.map((name) => `/${name}\0`);
    return this.#read(Buffer.from(directories.map((one) => one + ends.join(one)).join('')));
  }

  async #read(packed: Buffer): Promise<Entry[]> {
    return decodeEntries(await this.#explained(binding().readStore(this.#fd, packed, LARGEST_FILE)));
  }

  /** Throws where something else stands than a directory: who is given these by their paths would follow a symbolic link. */
  async mustBeDirectories(paths: readonly string[]): Promise<void> {
    const there = await this.read(paths);
    const wrong = paths.find((_, index) => there[index]?.type !== 'directory');
    if (wrong === undefined) return;
    throw layerDamaged(wrong.slice(0, wrong.indexOf('/')), this.shown, `${wrong} is no directory`);
  }

  /** The names in a directory; none in one that is missing. */
  async names(path = ''): Promise<Name[]> {
    const [names = []] = await this.namesIn([path]);
    return names;
  }

  /** The same of many, in one go. */
  async namesIn(paths: readonly string[]): Promise<Name[][]> {
    return decodeNames(await this.#explained(binding().readStoreNames(this.#fd, packedPaths(paths))));
  }

  /**
   * Carries steps out; those that are locks come first and are waited for. Rejects with the native failure, which says
   * how far it got: `explainStore()` makes an error of it.
   */
  run(steps: readonly Step[], durable: boolean): Promise<void> {
    return this.#waiting(() => binding().runStoreSteps(this.#fd, steps, durable));
  }

  /** Waits for a directory's lock. ENOENT rejects as a native error. */
  async lock(path: string, kind: 'shared' | 'exclusive'): Promise<HeldLock> {
    return (await this.lockAndRead(path, kind, [])).lock;
  }

  /** The same, and what stands at these paths then. */
  async lockAndRead(
    path: string,
    kind: 'shared' | 'exclusive',
    paths: readonly string[],
  ): Promise<{ readonly lock: HeldLock; readonly entries: readonly Entry[] }> {
    const packed = packedPaths(paths);
    const locked = await this.#waiting(() => this.#lock(path, kind === 'exclusive', packed));
    return { lock: held(locked), entries: decodeEntries(locked.read) };
  }

  /** The exclusive lock, if it is to be had at once. */
  async tryLock(path: string): Promise<HeldLock | undefined> {
    try {
      return held(await this.#lock(path, true, packedPaths([])));
    } catch (error) {
      if (isWaiting(error)) return undefined;
      throw error;
    }
  }

  close(): void {
    binding().closeDirectories(this.#opened);
  }

  #lock(path: string, exclusive: boolean, packed: Buffer): ReturnType<Binding['lockInStore']> {
    return binding().lockInStore(this.#fd, Buffer.from(path), exclusive, packed, LARGEST_FILE);
  }

  async #waiting<T>(attempt: () => Promise<T>): Promise<T> {
    const started = performance.now();
    for (let pause = 1; ; pause = Math.min(pause * 2, 16)) {
      try {
        return await attempt();
      } catch (error) {
        if (!isWaiting(error)) throw error;
        if (performance.now() - started >= this.#lockTimeout) throw this.#locked(error);
        // Not all at the same moment again.
        await sleep(pause * (0.5 + Math.random() / 2));
      }
    }
  }

  #locked(error: NativeStoreFailure): unknown {
    return overlayError(
      'ERR_OVERLAY_STORE_LOCKED',
      `another process, or another call, is at work on ${this.shown}/${showPath(error.path ?? Buffer.alloc(0))}, and has been for ${this.#lockTimeout} ms`,
      'Wait until it has finished, or raise lockTimeout',
    );
  }

  async #explained<T>(verb: Promise<T>): Promise<T> {
    try {
      return await verb;
    } catch (error) {
      throw explainStore(error, `the store ${this.shown}`);
    }
  }
}

const packedPaths = (paths: readonly string[]): Buffer =>
  Buffer.from(paths.length === 0 ? '' : `${paths.join('\0')}\0`);

function held({ opened }: NativeOpened): HeldLock {
  let locked = true;
  const release = (): void => {
    if (locked) binding().closeOpened(opened);
    locked = false;
  };
  return { release, [Symbol.dispose]: release };
}

function isWaiting(error: unknown): error is NativeStoreFailure {
  return isNativeError(error) && error.errno === -EWOULDBLOCK && error.syscall === 'flock';
}
