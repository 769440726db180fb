/**
 * What the file system of one directory can do for an overlay.
 * @module
 */
import { statfs } from 'node:fs/promises';
import { constants } from 'node:os';
import { binding } from '../addon.ts';
import { type ErrorCode, overlayError, systemError } from '../errors.ts';
import type { NativeDirectoryProbe, NativeRef } from '../native/binding.ts';
import { explained } from '../native-errors.ts';
import { showRef } from '../paths.ts';
import { type Answer, answer, no } from './answer.ts';

/** What {@link support} tells of a directory. */
export interface DirectorySupport {
  readonly path: string;
  /** As mount tables name it: `ext4`, `xfs`, `tmpfs`. */
  readonly fileSystem: string;
  /** Directory entries tell their type: overlayfs needs it of an upper. */
  readonly entryTypes: Answer;
  readonly trustedXattr: Answer;
  readonly userXattr: Answer;
  /** A whiteout can be made by mknod(2). Tried in uppers only, like all that follow. */
  readonly whiteout: Answer;
  readonly renameWhiteout: Answer;
  readonly tmpfile: Answer;
  /** FICLONE, tried on two files: copy-up is then nearly free where the lower is on the same file system. */
  readonly reflink: Answer;
  /** Needed by index, nfsExport, and to tell whether an upper is in use. */
  readonly fileHandles: Answer;
  readonly overlay: boolean;
  readonly tmpfs: boolean;
  readonly network: boolean;
  readonly readonly: boolean;
  readonly idmapped: boolean;
  /** What an ordinary user can still write. */
  readonly room: { readonly bytes: bigint; readonly inodes: bigint };
}

const networkTypes = ['nfs', 'nfs4', 'cifs', 'smb3', '9p', 'ceph', 'afs', 'virtiofs', 'fuse.sshfs'];

const refusals: Readonly<Record<number, readonly [ErrorCode, string]>> = {
  [constants.errno.ENOENT]: ['ERR_OVERLAY_LAYER_NOT_FOUND', 'Name a directory that exists'],
  [constants.errno.ENOTDIR]: ['ERR_OVERLAY_LAYER_NOT_DIRECTORY', 'Name a directory'],
  [constants.errno.EACCES]: ['ERR_OVERLAY_LAYER_NOT_PERMITTED', 'Grant search permission on its path'],
  [constants.errno.EBADF]: ['ERR_OVERLAY_LAYER_BAD_FD', 'Keep the descriptor open'],
};

/** Probes a directory; an upper or work directory by making files in it, a lower by reading. */
export async function directorySupport(ref: NativeRef, writable: boolean): Promise<DirectorySupport> {
  const [facts] = await explained(binding().directoryFacts([ref]), showRef(ref));
  const path = showRef(ref);
  if (facts === undefined || facts.error !== undefined || !facts.isDirectory) {
    const errno = facts?.error?.errno ?? -constants.errno.ENOTDIR;
    const [code, fix] = refusals[-errno] ?? ['ERR_OVERLAY_LAYER_UNREACHABLE', 'See errno'];
    throw overlayError(code, `${path}: ${systemError(errno).text}`, fix, { path, errno });
  }
  const { mount } = facts;
  const probe = await explained(binding().probeDirectory(ref, writable && !facts.readonly), path);
  const room = await statfs(typeof ref === 'number' ? `/proc/self/fd/${ref}` : ref, { bigint: true });
  const fileSystem = mount?.type ?? 'unknown';
  return {
    path,
    fileSystem,
    ...answers(probe),
    overlay: fileSystem === 'overlay',
    tmpfs: fileSystem === 'tmpfs',
    network: networkTypes.includes(fileSystem),
    readonly: facts.readonly,
    idmapped: mount?.mountFlags.includes('idmapped') ?? false,
    room: { bytes: room.bavail * room.bsize, inodes: room.ffree },
  };
}

type Answers = Pick<
  DirectorySupport,
  | 'entryTypes'
  | 'trustedXattr'
  | 'userXattr'
  | 'whiteout'
  | 'renameWhiteout'
  | 'tmpfile'
  | 'reflink'
  | 'fileHandles'
>;

function answers(probe: NativeDirectoryProbe): Answers {
  const of = (errno: number | undefined, what: string, how: string): Answer => {
    if (errno === undefined) return no(`${what}: not tried`, notTried(probe));
    if (errno === 1) return no(`${what}: cannot be told`, 'the directory is empty');
    return answer(errno === 0, what, `${how}: ${errno === 0 ? 'taken' : systemError(errno).code}`);
  };
  return {
    entryTypes: of(probe.entryTypes, 'types in directory entries', 'getdents64'),
    trustedXattr: of(probe.trustedXattr, 'trusted.* attributes', 'trusted.overlay.opaque'),
    userXattr: of(probe.userXattr, 'user.* attributes', 'user.overlay.opaque'),
    whiteout: of(probe.whiteout, 'whiteouts by mknod', 'mknodat(S_IFCHR, 0:0)'),
    renameWhiteout: of(probe.renameWhiteout, 'RENAME_WHITEOUT', 'renameat2'),
    tmpfile: of(probe.tmpfile, 'O_TMPFILE', 'openat'),
    reflink: of(probe.reflink, 'reflinks', 'ioctl(FICLONE)'),
    fileHandles: of(probe.fileHandles, 'file handles', 'name_to_handle_at'),
  };
}

function notTried({ writable }: NativeDirectoryProbe): string {
  if (writable === undefined) return 'a lower is only read, and a read-only directory cannot be written';
  return `making a directory in it: ${systemError(writable).code}`;
}
