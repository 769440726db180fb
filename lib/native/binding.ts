/**
 * The typed contract of the `.node`: the same list as `native/binding/addon.cc`.
 * @module
 */

/** A live overlay, as the native side knows it. Opaque here. */
export type NativeHandle = { readonly __overlayfs: unique symbol };

/** A layer: absolute bytes, or an open descriptor. */
export type NativeRef = Buffer | number;

/** How the overlay is handed to the kernel, best first. */
export type Rung = 'layer-fds' | 'layer-names' | 'joined-names' | 'mount' | 'mount-fd-names';

/** The step of a mount that failed. */
export type MountStep =
  | 'open-layer'
  | 'check-upper'
  | 'check-in-lower'
  | 'check-in-use'
  | 'clear-marker'
  | 'scratch'
  | 'target'
  | 'create'
  | 'verify-writable'
  | 'attach';

/** What every verb rejects with: plain data, of which TypeScript makes an Error. */
export interface NativeError {
  readonly errno: number;
  readonly syscall: string;
  readonly arguments: Buffer;
  readonly path?: Buffer;
  readonly kernel?: Buffer;
}

/** A rung that this kernel does not have, found by trying it. */
export interface NativeAttempt extends NativeError {
  readonly rung: Rung;
}

/** What `mountOverlay` rejects with. */
export interface NativeMountFailure extends NativeError {
  readonly step: MountStep;
  readonly role?: 'lower' | 'dataOnlyLower' | 'upper' | 'work';
  readonly index?: number;
  readonly other?: Buffer;
  readonly attempts: readonly NativeAttempt[];
}

/** A whole mount, every option spelled out; carried out in one call. */
export interface NativePlan {
  /**
   * False: exactly what the kernel does. No layer is checked, nothing but the mount is taken back when it fails, and an
   * overlay that comes up read-only stays.
   */
  readonly policy: boolean;
  readonly lower: readonly NativeRef[];
  readonly dataOnlyLower: readonly NativeRef[];
  readonly upper?: NativeRef;
  readonly work?: NativeRef;
  readonly scratch: boolean;
  readonly scratchSize?: bigint;
  readonly emptyLower: boolean;
  readonly options: readonly (readonly [key: string, value: Buffer | null])[];
  readonly source: Buffer;
  readonly readonly: boolean;
  readonly mountFlags: readonly MountFlag[];
  /** Absent: what the parent mount makes of it. */
  readonly propagation?: Propagation;
  readonly target?: Buffer;
  readonly mkdirTarget: boolean;
  readonly rungs: readonly Rung[];
  readonly detachedLayers: boolean;
  readonly checkInUse: boolean;
  readonly removeVolatileMarker: boolean;
  readonly requireXattrs: boolean;
  readonly xattrPrefix: 'trusted.overlay.' | 'user.overlay.';
  readonly keepUpperForSync: boolean;
  /** For index and nfs_export: report a layer without file handles. */
  readonly needsFileHandles: boolean;
  /** False inside a user namespace, where the kernel says of everything that it is free. */
  readonly canTellInUse: boolean;
  readonly keepOnExit: boolean;
}

/** A flag of one mount (not of its superblock), as mount(8) and proc_pid_mountinfo(5) name it. */
export type MountFlag =
  | 'readonly'
  | 'nosuid'
  | 'nodev'
  | 'noexec'
  | 'noatime'
  | 'strictatime'
  | 'nodiratime'
  | 'idmapped'
  | 'nosymfollow';

/** A word of mount(8) for what mount(2) remounts with. */
export type RemountFlag =
  | Exclude<MountFlag, 'idmapped'>
  | 'relatime'
  | 'sync'
  | 'dirsync'
  | 'mand'
  | 'lazytime'
  | 'bind';

/** How mounts below this one travel between mount namespaces: mount_namespaces(7). */
export type Propagation = 'private' | 'slave' | 'shared' | 'unbindable';

/** The descriptors of a live overlay's layers; they are its own. */
export interface NativeLayers {
  readonly lower: readonly number[];
  readonly dataOnlyLower: readonly number[];
  readonly upper?: number;
  readonly work?: number;
}

/** What `mountOverlay` resolves with. */
export interface NativeMounted extends NativeAttached {
  readonly handle: NativeHandle;
  readonly fd?: number;
  readonly rung: Rung;
  readonly attempts: readonly NativeAttempt[];
  readonly inUseUnknown?: string;
  readonly containmentVerified: boolean;
  readonly upperWithoutXattrs: boolean;
  /** Of a layer, where `needsFileHandles` asked: index and nfs_export are off then. */
  readonly withoutFileHandles: boolean;
}

/** What `attach` resolves with. */
export interface NativeAttached {
  readonly mountId: bigint;
  readonly madeTarget: boolean;
  readonly propagated: boolean;
}

/** What this kernel can do with this privilege, found by trying. Errnos are negative; 0 is success. */
export interface KernelFeatures {
  readonly fsopenErrno: number;
  readonly nativeParser: boolean;
  readonly layerFds: 'none' | 'readable' | 'path';
  readonly lowerdirAppend: boolean;
  readonly detachedLayers: boolean;
  readonly statmount: boolean;
  readonly initialUserNamespace: boolean;
  readonly sysAdmin: boolean;
  readonly options: readonly string[];
  readonly filtered: readonly string[];
}

/** One mount as the kernel shows it. */
export interface NativeMountInfo {
  readonly mountId: bigint;
  readonly parentId: bigint;
  readonly mountInfoId: bigint;
  readonly uniqueIds: boolean;
  readonly device: bigint;
  readonly root: Buffer;
  readonly point: Buffer;
  readonly type: string;
  readonly source: Buffer;
  readonly options: Buffer;
  readonly superblockReadonly: boolean;
  readonly mountFlags: readonly MountFlag[];
  readonly propagation: readonly Propagation[];
}

/** What can be said of a directory without changing it; only `error` when it cannot be opened. */
export type DirectoryFacts =
  | { readonly error: NativeError }
  | {
      readonly error?: undefined;
      readonly isDirectory: boolean;
      readonly searchable: boolean;
      readonly device: bigint;
      readonly inode: bigint;
      readonly links: number;
      readonly mountId: bigint;
      /** `f_type` of statfs(2). */
      readonly fileSystem: number;
      readonly readonly: boolean;
      readonly trustedXattrErrno: number;
      readonly userXattrErrno: number;
      readonly volatileMarker: boolean;
      readonly canonicalPath: Buffer;
      readonly mount?: NativeMountInfo;
    };

/** What a mount would come to, as far as that can be known without changing anything. */
export interface NativeRehearsal {
  /** False: this kernel tells nothing before the mount itself (before Linux 6.5). */
  readonly complete: boolean;
  readonly failure?: NativeMountFailure;
  readonly inUse: 'no' | 'upper' | 'work' | 'unknown';
  readonly inUseReason: string;
  /** work/work is deeper than the kernel cleans: the overlay would come up read-only. */
  readonly workUncleanable: boolean;
}

/** What a directory's file system can do: 0, the negative errno that refused it, or 1 where it could not be tried. */
export interface NativeDirectoryProbe {
  readonly fileHandles: number;
  readonly entryTypes?: number;
  readonly trustedXattr?: number;
  readonly userXattr?: number;
  readonly writable?: number;
  readonly whiteout?: number;
  readonly renameWhiteout?: number;
  readonly tmpfile?: number;
  readonly reflink?: number;
}

/** Who keeps a mount busy, one by one, and what could not be looked at. */
export interface NativeHolders {
  readonly holders: readonly NativeHolder[];
  readonly unseen: readonly {
    readonly what: readonly HoldKind[];
    /** Negative. */
    readonly errno: number;
    readonly pids: readonly number[];
  }[];
  /** /proc does not list the processes of others: it is mounted with `hidepid`. */
  readonly hiddenProcesses: boolean;
  /** This pid namespace is not the first, and those outside are in no /proc of it. */
  readonly outerProcesses: boolean;
}

/** Through what a mount is held: what `Holder` of the public types says of each. */
export type HoldKind = 'fd' | 'cwd' | 'root' | 'exe' | 'map' | 'mount' | 'namespace' | 'detached-fd';

/** One holder; without a process for `mount`. */
export interface NativeHolder {
  readonly kind: HoldKind;
  readonly pid?: number;
  readonly uid?: number;
  readonly comm?: Buffer;
  readonly path: Buffer;
  readonly fd?: number;
  readonly readable?: boolean;
  readonly writable?: boolean;
  readonly mountNamespace?: bigint;
  readonly pids?: readonly number[];
}

/** A mount that did not go at once; `errno` 0: it has been detached lazily. */
export interface NativeExitOutcome {
  readonly target: Buffer;
  readonly errno: number;
}

/** A descriptor that is ours: closed by `closeOpened`, or with the environment. */
export interface NativeOpened {
  readonly fd: number;
  readonly opened: { readonly __overlayfs: unique symbol };
}

/** Directories that are open for us: closed by `closeDirectories`, or with the environment. */
export interface NativeDirectories {
  readonly fds: readonly number[];
  readonly opened: { readonly __overlayfs: unique symbol };
}

/** A `LayerStack` with every default made explicit. */
export interface NativeStack {
  readonly lower: readonly NativeRef[];
  readonly dataOnlyLower: readonly NativeRef[];
  readonly upper?: NativeRef;
  readonly work?: NativeRef;
  readonly index: boolean;
  readonly metacopy: boolean;
  readonly userxattr: boolean;
  readonly redirectDir: 'on' | 'follow' | 'nofollow';
}

/** What a verb that runs long looks at between two system calls. */
export type NativeCancel = { readonly __overlayfs: unique symbol };

/** Every export of the addon. Promises reject with {@link NativeError}. */
export interface Binding {
  mountOverlay(plan: NativePlan): Promise<NativeMounted>;
  attach(
    handle: NativeHandle,
    target: Buffer,
    mkdir: boolean,
    propagation: Propagation,
  ): Promise<NativeAttached>;
  remount(handle: NativeHandle, readonly: boolean): Promise<void>;
  /** mount(2) with MS_REMOUNT and these flags alone: what they do not say is taken away. */
  remountTarget(target: Buffer, flags: readonly RemountFlag[]): Promise<void>;
  /** False: it was gone already. */
  unmount(handle: NativeHandle, lazy: boolean, syncVolatile: boolean): Promise<boolean>;
  unmountTarget(target: Buffer, lazy: boolean): Promise<void>;
  /** By unique mount id only; false: it was gone already. */
  unmountById(mountId: bigint, target: Buffer): Promise<boolean>;
  /** Undefined: it went at once. */
  unmountNow(handle: NativeHandle): NativeExitOutcome | undefined;
  closeGate(): readonly NativeExitOutcome[];
  kernelFeatures(): Promise<KernelFeatures>;
  /** The errno that refuses a throw-away overlay with these options; 0 when it is taken. */
  tryCreate(
    options: readonly (readonly [key: string, value: string])[],
    dataOnlyLower: boolean,
  ): Promise<number>;
  listOverlays(fromMountinfo: boolean): Promise<readonly (NativeMountInfo & { readonly own: boolean })[]>;
  directoryFacts(refs: readonly NativeRef[]): Promise<readonly DirectoryFacts[]>;
  /** A path or descriptor of the mount's root, or its id, unique or mountinfo's. */
  holders(mount: NativeRef | bigint): Promise<NativeHolders>;
  /** Rejects when a layer cannot be opened. */
  rehearse(plan: NativePlan): Promise<NativeRehearsal>;
  /** The errno that refuses each option, set alone; 0 when it is taken. */
  tryOptions(options: readonly (readonly [key: string, value: Buffer | null])[]): Promise<readonly number[]>;
  probeDirectory(ref: NativeRef, writable: boolean): Promise<NativeDirectoryProbe>;
  /** The errno that refuses a new user namespace; 0 when it is allowed. */
  tryUserNamespace(): Promise<number>;
  /** Where other mounts hang below any of these canonical paths. */
  mountsBelow(directories: readonly Buffer[]): Promise<readonly Buffer[]>;
  /** Every extended attribute of what `path` names, which is not followed if it is a symbolic link. */
  readXattrs(path: Buffer): Promise<readonly (readonly [name: Buffer, value: Buffer])[]>;
  /** Synchronous. */
  layers(handle: NativeHandle): NativeLayers;
  openInRoot(handle: NativeHandle, path: Buffer, flags: number, mode: number): Promise<NativeOpened>;
  closeOpened(opened: NativeOpened['opened']): void;
  /** `O_PATH` descriptors, in the order of the refs. */
  openDirectories(refs: readonly NativeRef[]): Promise<NativeDirectories>;
  closeDirectories(opened: NativeDirectories['opened']): void;
  newCancel(): NativeCancel;
  cancel(token: NativeCancel): void;
}

/** The verbs of the test build alone: the named system call lets `skip` calls through, then fails `times` of them. */
export interface FaultBinding extends Binding {
  planFault(call: string, errno: number, skip: number, times: number): void;
  clearFaults(): void;
}
