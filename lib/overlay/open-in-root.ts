/**
 * Opening a file inside an overlay whose content is not trusted.
 * @module
 */
import { constants, open as openDescriptor } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { promisify } from 'node:util';
import { binding } from '../addon.ts';
import { fileError } from '../errors.ts';
import type { NativeHandle, NativeOpened } from '../native/binding.ts';
import { isNativeError } from '../native-errors.ts';
import { showPath } from '../paths.ts';

const { O_RDONLY, O_CREAT, O_EXCL, O_TRUNC, O_NOFOLLOW, O_NONBLOCK, O_DIRECTORY } = constants;

// O_PATH of open(2): locates without opening. Not among Node's constants; the same on x64 and arm64.
const O_PATH = 0o10000000;

const openFd = promisify(openDescriptor);

/**
 * Locates the file natively, under RESOLVE_IN_ROOT, then opens it by its descriptor's name. A file that is to be created
 * is created natively; any other is only located there, since opening a FIFO or a device twice is not opening it once.
 */
export async function openInRoot(
  handle: NativeHandle,
  path: Buffer,
  flags: number,
  mode: number,
): Promise<FileHandle> {
  const creates = (flags & O_CREAT) !== 0;
  const located = creates
    ? await create(handle, path, flags, mode)
    : await locate(handle, path, O_PATH | (flags & (O_NOFOLLOW | O_DIRECTORY)), 0);
  const done = O_NOFOLLOW | (creates ? O_CREAT | O_EXCL | O_TRUNC : 0);
  try {
    return await byName(located, (name) => open(name, flags & ~done, mode));
  } catch (error) {
    const { errno = 0, syscall = 'open' } = error as NodeJS.ErrnoException;
    throw fileError(errno, syscall, showPath(path), error);
  }
}

// Without blocking: a FIFO of that name would keep one of our threads for as long as nobody reads it.
async function create(
  handle: NativeHandle,
  path: Buffer,
  flags: number,
  mode: number,
): Promise<NativeOpened> {
  try {
    return await locate(handle, path, flags | O_NONBLOCK, mode);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENXIO') throw error;
    return locate(handle, path, O_PATH, 0);
  }
}

/** Opens the root directory itself. */
export async function openRoot(handle: NativeHandle): Promise<number> {
  const located = await locate(handle, Buffer.from('.'), O_PATH | O_DIRECTORY, 0);
  return byName(located, (name) => openFd(name, O_RDONLY | O_DIRECTORY));
}

// What the caller gets Node.js has opened itself: with a worker it closes such descriptors, and warns of any other that
// is closed there.
async function byName<T>({ fd, opened }: NativeOpened, open: (name: string) => Promise<T>): Promise<T> {
  try {
    return await open(`/proc/self/fd/${fd}`);
  } finally {
    binding().closeOpened(opened);
  }
}

async function locate(
  handle: NativeHandle,
  path: Buffer,
  flags: number,
  mode: number,
): Promise<NativeOpened> {
  try {
    return await binding().openInRoot(handle, path, flags, mode);
  } catch (error) {
    // Anything but openat2 failed on the way to the overlay itself.
    if (!isNativeError(error) || error.syscall !== 'openat2') throw error;
    throw fileError(error.errno, 'open', showPath(path), error);
  }
}
