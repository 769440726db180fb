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

/** What keeps a mount busy. */
export interface Holder {
  readonly pid: number;
  readonly uid: number;
  readonly comm: string;
  readonly kind: 'fd' | 'cwd' | 'root' | 'exe' | 'map' | 'mount' | 'namespace' | 'detached-fd';
  readonly path?: string;
  readonly fd?: number;
  readonly mode?: string;
  readonly mountNamespace?: bigint;
  readonly pids?: readonly number[];
}

/** Something that is a mount: what lower rooms ask of an `Overlay`. */
export interface MountRef {
  readonly mountId: bigint;
  readonly target?: string | undefined;
}

/** Something that knows its layers: what lower rooms ask of an `Overlay`. */
export interface LayerSource {
  layers(): LayerStack;
}
