/**
 * Who keeps a mount busy, and through what.
 * @module
 */
import { constants } from 'node:os';
import { binding } from '../addon.ts';
import { invalidArgument, type OverlayError, overlayError, systemError } from '../errors.ts';
import type { NativeError, NativeHolder, NativeHolders } from '../native/binding.ts';
import { absolutePath, showPath } from '../paths.ts';
import type { Holder, Holders, MountRef, PathLike, Unseen } from '../types.ts';

/**
 * Finds what keeps a mount busy: mounts on top of it and below it, and for every process its open files, current and
 * root directory, program and mapped files, this process's own among them. What is open through another mount of the same
 * superblock is found too where that mount is in another mount namespace or in none: it keeps upper and work in use. What
 * is open through a bind mount in this namespace holds that mount: ask for it by its own path.
 *
 * Any mount will do, not only overlays. An ordinary user sees his own processes; `unseen` says what is missing. Not
 * looked for: threads that do not share their process's files, Unix sockets bound in the mount, loop devices and swap.
 *
 * One pass over /proc: proc_pid_fd(5), proc_pid_maps(5), proc_pid_mountinfo(5).
 *
 * @throws OverlayError `ERR_OVERLAY_NOT_MOUNTED` when no mount is there, `ERR_OVERLAY_TARGET_NOT_FOUND` when nothing is.
 *
 * @example
 * ```ts
 * import { holders } from 'overlayfs';
 *
 * const found = await holders('/mnt/merged');
 * for (const { kind, pid, comm, path } of found) console.log(kind, pid, comm, path);
 * for (const { what, why, pids } of found.unseen) console.log(`not seen: ${what} of ${pids} (${why})`);
 * ```
 */
export async function holders(target: PathLike | MountRef): Promise<Holders> {
  const mount = mountOf(target);
  try {
    return publicHolders(await binding().holders(mount));
  } catch (error) {
    throw explain(error, showMount(target, mount));
  }
}

/** The first few in words, for an error's detail: `pid 123 (vim): open file /mnt/x for writing; …`. Empty for none. */
export function describeHolders(found: Holders, most = 3): string {
  const words = found.slice(0, most).map(describe);
  if (found.length > most) words.push(`and ${found.length - most} more`);
  return words.join('; ');
}

function mountOf(target: PathLike | MountRef): Buffer | number | bigint {
  if (!isMountRef(target)) return absolutePath(target, 'target');
  const { fd, mountId } = target;
  if (fd === undefined) return mountId;
  if (!Number.isInteger(fd) || fd < 0 || fd > 0x7fffffff) {
    throw invalidArgument('target.fd', fd, 'must be an open file descriptor');
  }
  return fd;
}

function isMountRef(target: PathLike | MountRef): target is MountRef {
  if (typeof target !== 'object' || target === null || !('mountId' in target)) return false;
  const { mountId } = target;
  if (typeof mountId === 'bigint' && mountId > 0n && mountId < 1n << 64n) return true;
  throw invalidArgument('target.mountId', mountId, 'must be the id of a mount, a bigint');
}

function showMount(target: PathLike | MountRef, mount: Buffer | number | bigint): string {
  if (Buffer.isBuffer(mount)) return showPath(mount);
  if (typeof mount === 'number') return `fd ${mount}`;
  return (target as MountRef).target ?? `mount ${mount}`;
}

function publicHolders(found: NativeHolders): Holders {
  const everything: Holder['kind'][] = ['fd', 'cwd', 'root', 'exe', 'map', 'namespace'];
  const unseen: Unseen[] = found.unseen.map(({ what, errno, pids }) => ({
    what,
    why: systemError(errno).code,
    pids,
  }));
  if (found.hiddenProcesses) unseen.push({ what: everything, why: 'hidepid', pids: [] });
  if (found.outerProcesses) unseen.push({ what: everything, why: 'pid-namespace', pids: [] });
  return Object.assign(found.holders.map(publicHolder), { unseen });
}

function publicHolder({ comm, path, readable, writable, ...rest }: NativeHolder): Holder {
  const mode = `${readable ? 'r' : ''}${writable ? 'w' : ''}` as '' | 'r' | 'w' | 'rw';
  return {
    ...rest,
    ...(comm === undefined ? {} : { comm: showPath(comm) }),
    path: showPath(path),
    pathBytes: path,
    ...(mode === '' ? {} : { mode }),
  };
}

const openFor = { r: ' for reading', w: ' for writing', rw: ' for reading and writing' };

function describe({ kind, pid, comm, path, mode, pids, mountNamespace }: Holder): string {
  if (kind === 'mount') return `another mount at ${path}`;
  const where = mountNamespace === undefined ? '' : ` in mount namespace ${mountNamespace}`;
  const who = `pid ${pid} (${comm}${pid === process.pid ? ', this process' : ''})`;
  const open = mode === undefined ? '' : openFor[mode];
  const what = {
    fd: `open file ${path}${open}`,
    cwd: `current directory ${path}`,
    root: `root directory ${path}`,
    exe: `running ${path}`,
    map: `mapped file ${path}`,
    namespace: `mounted at ${path}`,
    'detached-fd': `open file ${path} of a detached mount${open}`,
  }[kind];
  const others = pids !== undefined && pids.length > 1 ? ` and ${pids.length - 1} others` : '';
  return `${who}${others}: ${what}${where}`;
}

function explain(error: unknown, target: string): unknown {
  if (!(typeof error === 'object' && error !== null && 'errno' in error && 'arguments' in error))
    return error;
  const { errno: code, syscall } = error as NativeError;
  const { errno } = constants;
  const { text } = systemError(code);
  const details = { errno: code, syscall, path: target, cause: new Error(`${syscall}: ${text}`) };
  const said = (...[errorCode, detail, fix]: Parameters<typeof overlayError>): OverlayError =>
    overlayError(errorCode, detail, fix, details);
  if (-code === errno.ECANCELED) {
    return said('ERR_OVERLAY_EXITING', 'the process (or this worker) is ending', 'Ask before the exit event');
  }
  const isGone = -code === errno.EINVAL || (-code === errno.ENOENT && syscall !== 'openat');
  if (isGone) {
    return said(
      'ERR_OVERLAY_NOT_MOUNTED',
      `nothing is mounted at ${target}`,
      'Name the directory that something is mounted on; listOverlays() tells all overlays',
    );
  }
  return -code === errno.ENOENT
    ? said('ERR_OVERLAY_TARGET_NOT_FOUND', `the target ${target} does not exist`, 'Correct the path')
    : said(
        'ERR_OVERLAY_TARGET_UNREACHABLE',
        `the target ${target} cannot be reached: ${text}`,
        'See errno: permissions, a bad descriptor, or a loop of symbolic links',
      );
}
