/**
 * The shapes that every room of this package shares.
 * @module
 */

/** A path: a string (taken as UTF-8), the bytes themselves for names that are not UTF-8, or a `file:` URL. */
export type PathLike = string | Uint8Array | URL;

/**
 * A directory: by path, or as a descriptor that the caller has open (`O_RDONLY` or `O_PATH`). A descriptor is
 * duplicated, never taken: closing it stays the caller's affair.
 */
export type DirRef = PathLike | { readonly fd: number };

/**
 * A set of layers and the options that they are read with: what an upper means depends on both. Plain data; nothing is
 * opened until a function is called with it.
 *
 * @see https://docs.kernel.org/filesystems/overlayfs.html
 */
export interface LayerStack {
  /** The read-only layers, topmost first, as the kernel has them. */
  readonly lower: DirRef | readonly DirRef[];
  /** Layers that only hold file data, for metacopy files to point into (Linux 6.5). */
  readonly dataOnlyLower?: readonly DirRef[];
  /** The writable layer. `upper` and `work` go together; without them the overlay is read-only. */
  readonly upper?: DirRef;
  /** An empty directory on the same mount as `upper`, for the kernel's own use. */
  readonly work?: DirRef;
  /** Keeps hard links whole across copy-up. */
  readonly index?: boolean;
  /** Copies up only metadata when only metadata changes. */
  readonly metacopy?: boolean;
  /** Overlay attributes in `user.overlay.*` in place of `trusted.overlay.*`. */
  readonly userxattr?: boolean;
  /** Whether renamed lower directories are recorded (`'on'`), honoured (`'follow'`) or neither (`'nofollow'`). */
  readonly redirectDir?: 'on' | 'follow' | 'nofollow';
}

/** One thing that is wrong, or worth knowing, about a set-up. */
export interface Finding {
  /** A stable code: `ERR_OVERLAY_…` for what prevents the mount, `WARN_OVERLAY_…` for what does not. */
  readonly code: string;
  readonly severity: 'error' | 'warning' | 'info';
  /** The path that it is about. */
  readonly path?: string;
  /** What is the case. */
  readonly detail: string;
  /** What to do about it. */
  readonly fix: string;
}

/** One thing that keeps a mount busy, or its superblock in use. */
export interface Holder {
  /**
   * Through what: an open file (`fd`), the current directory, the root directory, the running program, a mapped file;
   * `mount`: another mount on top of it or below it (in the error that an upper or work directory is in use, the overlay
   * that uses it); `namespace`: the same superblock is mounted in another mount
   * namespace too; `detached-fd`: an open file on a mount of the superblock that is in no mount table, as a detached view
   * or after a lazy unmount.
   */
  readonly kind: 'fd' | 'cwd' | 'root' | 'exe' | 'map' | 'mount' | 'namespace' | 'detached-fd';
  /** The process; of `namespace` the first of `pids`. Absent for `mount`. */
  readonly pid?: number;
  /** The effective user of the process. */
  readonly uid?: number;
  /** The command, as in proc_pid_comm(5): at most 15 bytes. */
  readonly comm?: string;
  /**
   * The file, the directory, or where the other mount is; for people, `pathBytes` are the bytes. The kernel's own words:
   * `(deleted)` behind what has been removed; for other mount namespaces it begins at their root, for a detached mount at
   * the mount's.
   */
  readonly path: string;
  readonly pathBytes: Buffer;
  /** The descriptor's number, of `fd` and `detached-fd`. */
  readonly fd?: number;
  /** What the descriptor is open for; absent for one that is neither (`O_PATH`). */
  readonly mode?: 'r' | 'w' | 'rw';
  /** The inode of the mount namespace, where it is not this process's own. */
  readonly mountNamespace?: bigint;
  /** Of `namespace`: every process in it. */
  readonly pids?: readonly number[];
}

/** Who holds a mount, and what could not be looked at: an array with one property more. */
export type Holders = readonly Holder[] & { readonly unseen: readonly Unseen[] };

/** What could not be looked at. */
export interface Unseen {
  /** The kinds of holders that may be missing. */
  readonly what: readonly Holder['kind'][];
  /**
   * An error's name (`EACCES`); `hidepid`: /proc does not list the processes of others; `pid-namespace`: processes outside
   * this pid namespace are in no /proc of it.
   */
  readonly why: string;
  /** The processes; none: it cannot be said which. */
  readonly pids: readonly number[];
}

/** Something that is a mount: what lower rooms ask of an `Overlay`. */
export interface MountRef {
  readonly mountId: bigint;
  readonly target?: string | undefined;
  /** A descriptor of its root while it is detached. */
  readonly fd?: number | undefined;
}

/** Something that knows its layers: what lower rooms ask of an `Overlay`. */
export interface LayerSource {
  layers(): LayerStack;
}
