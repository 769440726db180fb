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
  /** Of verbs that look into layers: it is a layer itself that could not be opened. */
  readonly layer?: true;
  /** Of a path of the merged view: what the kernel refuses on the way. */
  readonly refused?: NativePlace & { readonly why: NativeRefusal };
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
  /** Of the directory that `mkdirTarget` makes. Default 0755. */
  readonly targetMode?: number;
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

/** A place in a layer by the kernel's number: 0 the upper, then the lowers, then data-only layers; -1 the work directory. */
export interface NativePlace {
  readonly layer: number;
  readonly path: Buffer;
}

/** What layers are called in this mount namespace; empty: nothing. */
export interface NativeLayerNames {
  /** By the kernel's numbers. */
  readonly roots: readonly Buffer[];
  readonly work: Buffer;
}

/** Layers that are open to be read as one tree. */
export type NativeMergedView = { readonly __overlayfs: unique symbol };

/** What `whichLayer` resolves with. Errnos are negative; 0 is success. */
export interface NativeWhichLayer extends NativeLayerNames {
  /** What the kernel answers of the path. */
  readonly errno: number;
  readonly mode: number;
  /** What opening it answers, though it exists. */
  readonly dataErrno: number;
  readonly merged: readonly NativePlace[];
  readonly serves?: NativePlace;
  readonly data?: NativePlace;
  readonly refused?: NativePlace & { readonly why: NativeRefusal };
  readonly way: readonly (NativePlace & { readonly kind: LayerStepKind; readonly redirect: Buffer })[];
  readonly hidden: readonly (NativePlace & {
    readonly why: HidingReason;
    readonly mode: number;
    readonly by: NativePlace;
  })[];
  readonly ignored: readonly (NativePlace & {
    readonly why: 'other-namespace' | 'opaque-value' | 'index-off' | 'fuse-overlayfs';
    readonly name: Buffer;
    readonly value: Buffer;
  })[];
}

/** Why the kernel will not look a name up. */
export type NativeRefusal =
  | 'redirect-not-followed'
  | 'metacopy-off'
  | 'redirect-malformed'
  | 'redirect-bad-name'
  | 'metacopy-malformed'
  | 'data-missing'
  | 'layer-inside-layer'
  | 'index-bad'
  | 'origin-mismatch';

/** What has a say in where a path comes from. */
export type LayerStepKind = 'opaque' | 'redirect' | 'metacopy' | 'index' | 'whiteout' | 'xattr-whiteout';

/** Why something in a layer does not show through. */
export type HidingReason = 'whiteout' | 'opaque' | 'redirect' | 'file' | 'directory';

/** What `applyChanges` has open: layers, target, and what it was given to do. */
export type NativeApply = { readonly __overlayfs: unique symbol };

/** How an entry of the target differs from the before-view. */
export type ConflictReason = 'missing' | 'exists' | 'type' | 'content' | 'metadata' | 'parent' | 'mount';

/** The first difference that concerns a change, which is named by its place among those that were handed over. */
export interface NativeConflict {
  readonly change: number;
  readonly reason: ConflictReason;
  readonly path: Buffer;
  readonly forcible: boolean;
}

/** What was carried out. */
export interface NativeApplied {
  /** By change: 1 where it was left out. */
  readonly decisions: Buffer;
  readonly bytes: bigint;
  /** Files, by `clone`, `copy_file_range`, `sendfile`, `read-write`. */
  readonly methods: readonly number[];
  readonly dropped: readonly (readonly [change: number, xattr: Buffer])[];
  /** Names, in the target, of directories that hold what could not be removed. */
  readonly left: readonly Buffer[];
}

/** What `applyRun` rejects with. */
export interface NativeApplyFailure extends NativeError {
  /** In the target. */
  readonly place: Buffer;
  /** The changes that could not be taken back. */
  readonly applied: readonly number[];
  /** The name, in the target, of the directory that holds what could not be put back; empty: nothing. */
  readonly left: Buffer;
  /** What somebody has changed in the target since it was compared, if that is why. */
  readonly edited?: Buffer;
  /** The target lies on an overlay. */
  readonly onOverlay: boolean;
}

/** A walk over the changes of an upper. Opaque here; ends with `closeChanges`, or when nobody has it any more. */
export type NativeChanges = { readonly __overlayfs: unique symbol };

/** How to walk. */
export interface NativeChangeOptions {
  readonly compare: 'metadata' | 'content' | 'none';
  readonly inOrder: boolean;
  readonly renames: boolean;
  readonly expand: boolean;
  readonly dirTimes: boolean;
  readonly include: readonly Buffer[];
  readonly exclude: readonly Buffer[];
  readonly threads: number;
}

/** About a thousand changes. */
export interface NativeChangeBatch {
  readonly count: number;
  /** `native/core/change_record.cc` packs, `lib/changes/decode.ts` unpacks. */
  readonly records: Buffer;
  /** How many of each kind, in the order of `changeKinds`. */
  readonly kinds: readonly number[];
  readonly errors: readonly NativeChangeError[];
  readonly ended: boolean;
  readonly consistent: boolean;
  readonly scannedLower: boolean;
  readonly renamesCut: boolean;
}

/** What could not be looked at: a call that failed, what the kernel refuses, or what these options do not stand for. */
export interface NativeChangeError {
  readonly path: Buffer;
  readonly error?: NativeError;
  readonly refused?: NativePlace & { readonly why: NativeRefusal };
  readonly artefact?: 'fuse-overlayfs' | 'aufs' | 'nlink' | 'userxattr' | 'trusted';
}

/** What a verb that runs long looks at between two system calls. */
export type NativeCancel = { readonly __overlayfs: unique symbol };

/** What became of a batch: one byte for each path (0: it was not come to), and the first failure. */
export interface NativeBatch {
  readonly outcomes: Buffer;
  readonly failure?: NativeBatchFailure;
}

/** Why a path of a batch was refused. */
export interface NativeBatchFailure extends NativeError {
  readonly index: number;
  /** The whole path, where it is not the batch's own. */
  readonly below?: Buffer;
  readonly refusal:
    | 'none'
    | 'in-opaque'
    | 'on-overlay'
    | 'not-whiteout'
    | 'marked-x'
    | 'root'
    | 'without-xattrs'
    | 'malformed';
}

/** Paths in a layer, in one buffer: each ended by a NUL. */
export type NativePaths = Buffer;
/** What became of some paths, packed: one crossing for all of them. */
export interface NativeCopyUpBatch {
  /** Each ended by a NUL byte. */
  readonly paths: Buffer;
  /** Indices into the methods: clone, copy_file_range, sendfile, read-write, kernel, skipped. */
  readonly methods: Uint8Array;
  readonly bytes: BigUint64Array;
  readonly cloned: Uint8Array;
  readonly reasons: readonly (readonly [index: number, reason: Buffer])[];
}

/** What refuses a copy-up, where it is no system call's error of one path. */
export type CopyUpRefusal =
  | 'open-layer'
  | 'work-locked'
  | 'upper-in-use'
  | 'work-in-use'
  | 'work-on-other-mount'
  | 'work-not-separate'
  | 'has-index'
  | 'work-needed'
  | 'unwritable';

/** An error with what it means for a copy-up. */
export interface NativeCopyUpError extends NativeError {
  readonly refusal?: CopyUpRefusal;
}

/** What is to be copied up without a mount. */
export interface NativeCopyUpOrder {
  readonly paths: NativePaths;
  readonly recursive: boolean;
  readonly concurrency: number;
  readonly rungs: readonly Rung[];
  readonly detachedLayers: boolean;
  readonly canTellInUse: boolean;
  readonly progress: NativeProgress;
}

/** One batch: `error` is what ended it, after these results. */
export interface NativeCopyUpStep extends NativeCopyUpBatch {
  readonly more: boolean;
  readonly error?: NativeCopyUpError;
}

/** A copy-up under way: locks and staging directory are held until `closeCopyUp`, or with the environment. */
export type NativeCopyUp = { readonly __overlayfs: unique symbol };
/** A copy-up through a mount, between two batches: closed by `closeMountedCopyUp`, or with the environment. */
export type NativeMountedCopyUp = { readonly __overlayfs: unique symbol };

/** What work on native threads counts as it goes. */
export type NativeProgress = { readonly __overlayfs: unique symbol };

/** What `rename` is to do. */
export interface NativeRenamePlan {
  readonly from: Buffer;
  readonly to: Buffer;
  readonly noreplace: boolean;
  readonly exchange: boolean;
  readonly cancel: NativeCancel;
  readonly progress?: NativeProgress;
}

/** What `rename` resolves with. */
export interface NativeRenamed {
  /** False: the kernel did it in one call. */
  readonly copied: boolean;
  readonly entries: number;
  readonly bytes: bigint;
}

/** What `rename` rejects with. */
export interface NativeRenameFailure extends NativeError {
  /**
   * Where it ended; only after `half-done` anything has changed. `overlay`: the mount could not be reached; `rename`: the
   * call itself was refused; `copy`: the copy could not be made.
   */
  readonly how: 'overlay' | 'rename' | 'refused' | 'changed' | 'copy' | 'half-done';
  /** What is left where it should be gone: how many, and the first few. */
  readonly remaining: bigint;
  readonly remains: readonly Buffer[];
  /** A directory beside the target that could not be taken back. */
  readonly staging?: Buffer;
  readonly stagingError?: NativeError;
}

/** flock(2), exclusive; fcntl(2), a record lock of any kind. */
export type NativeFileLock = 'none' | 'flock' | 'fcntl';

/** What is done in a store, one after another; native/core/store_steps.h says what each is. */
export type NativeStoreAction =
  | 'lock-shared'
  | 'lock-exclusive'
  | 'unlock'
  | 'expect'
  | 'unused'
  | 'mkdir'
  | 'write'
  | 'replace'
  | 'ensure'
  | 'symlink'
  | 'rename'
  | 'exchange'
  | 'unlink'
  | 'rmdir'
  | 'remove'
  | 'sync'
  | 'syncfs';

/** `other`: the content, a symbolic link's target, the other path. */
export type NativeStoreStep = readonly [
  action: NativeStoreAction,
  path: Buffer,
  other?: Buffer,
  mode?: number,
];

/** What `runStoreSteps` rejects with: the steps before `step` have been carried out. */
export interface NativeStoreFailure extends NativeError {
  readonly step: number;
}

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
  /** The errno that refuses each option, alone; 0 when it is taken. Before Linux 6.5 it rejects without privilege. */
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
  /** Outcomes: 1 made, 2 linked, 3 present, 4 replaced. */
  createWhiteouts(
    layer: NativeRef,
    paths: NativePaths,
    xattrPrefix: string,
    options: { readonly form: 'device' | 'xattr'; readonly share: boolean; readonly replace: boolean },
    cancel: NativeCancel,
  ): Promise<NativeBatch>;
  /** Outcomes: 1 none, 2 device, 3 xattr, 4 aufs. */
  whiteoutForms: NativeBatchVerb;
  removeWhiteouts: NativeBatchVerb;
  renameWithWhiteout(
    layer: NativeRef,
    from: Buffer,
    to: Buffer,
    xattrPrefix: string,
    replace: boolean,
  ): Promise<NativeBatchFailure | undefined>;
  /** Outcomes, what was there before: 1 none, 2 xattr, 3 fuse-overlayfs, 4 aufs. */
  setOpaque: NativeBatchVerb;
  clearOpaque: NativeBatchVerb;
  opaqueForms: NativeBatchVerb;
  /** `packed`: native/core/layer_xattr.h says how. */
  readOverlayXattrs(
    layer: NativeRef,
    paths: NativePaths,
    xattrPrefix: string,
    cancel: NativeCancel,
  ): Promise<NativeBatch & { readonly packed: Buffer }>;
  /**
   * Names behind the prefix, and values each behind its length (u32, little-endian): one of each for every path. With a
   * malformed one among them nothing is written.
   */
  writeOverlayXattrs(
    layer: NativeRef,
    paths: NativePaths,
    names: NativePaths,
    values: Buffer,
    xattrPrefix: string,
    cancel: NativeCancel,
  ): Promise<NativeBatch>;
  stripOverlayXattrs(
    layer: NativeRef,
    paths: NativePaths,
    xattrPrefix: string,
    unescaping: boolean,
    recursive: boolean,
    cancel: NativeCancel,
  ): Promise<NativeBatch & { readonly removed: number; readonly unescaped: number }>;
  /** Synchronous; the name behind the prefix. Packed as those of `readOverlayXattrs`. */
  decodeOverlayXattr(name: Buffer, value: Buffer): Buffer;
  upperInUse(ref: NativeRef, rung: Rung, detachedLayers: boolean): Promise<'no' | 'upper' | 'unknown'>;
  /** A path as names alone: no leading slash, no `.`, no `..`. */
  whichLayer(stack: NativeStack, path: Buffer): Promise<NativeWhichLayer>;
  /** With the first batch, since most need no other: there is a session if there is more. Rejects with {@link NativeCopyUpError}. */
  startCopyUp(
    stack: NativeStack,
    order: NativeCopyUpOrder,
    cancel: NativeCancel,
  ): Promise<NativeCopyUpStep & { readonly session?: NativeCopyUp; readonly inUseUnknown: string }>;
  /** One call at a time. */
  nextCopyUp(session: NativeCopyUp, cancel: NativeCancel): Promise<NativeCopyUpStep>;
  closeCopyUp(session: NativeCopyUp): Promise<void>;
  /** `overlay` is a handle, or any directory of an overlay, which then is the root; `paths` are ended by NUL bytes. */
  openMountedCopyUp(
    overlay: NativeHandle | NativeRef,
    paths: Buffer,
    options: {
      readonly recursive: boolean;
      readonly concurrency: number;
      readonly metacopy: boolean;
      readonly progress?: NativeProgress;
    },
  ): Promise<NativeMountedCopyUp>;
  /** An empty batch is the end. */
  nextMountedCopyUp(run: NativeMountedCopyUp, cancel: NativeCancel): Promise<NativeCopyUpBatch>;
  closeMountedCopyUp(run: NativeMountedCopyUp): void;
  rename(handle: NativeHandle, plan: NativeRenamePlan): Promise<NativeRenamed>;
  newProgress(): NativeProgress;
  readProgress(progress: NativeProgress): { readonly entries: number; readonly bytes: bigint };
  openMergedView(stack: NativeStack): Promise<NativeLayerNames & { readonly view: NativeMergedView }>;
  /** Verbs that are under way go on; later ones fail with EBADF. */
  closeMergedView(view: NativeMergedView): void;
  /** Packed: lib/changes/merged-record.ts reads it. Paths as for `whichLayer`. */
  mergedList(view: NativeMergedView, path: Buffer, withStats: boolean): Promise<Buffer>;
  mergedStat(view: NativeMergedView, path: Buffer): Promise<Buffer>;
  mergedOpen(view: NativeMergedView, path: Buffer): Promise<NativeOpened>;
  mergedLink(view: NativeMergedView, path: Buffer): Promise<Buffer>;
  mergedXattrs(
    view: NativeMergedView,
    path: Buffer,
  ): Promise<readonly (readonly [name: Buffer, value: Buffer])[]>;
  /** Whether a live overlay has it as upper or work; asked of the kernel. */
  directoryInUse(
    ref: NativeRef,
    detachedLayers: boolean,
  ): Promise<{ readonly answer: 'no' | 'yes' | 'unknown'; readonly reason: string }>;
  /** What names mean there, they mean below /proc/PID/root. */
  overlaysElsewhere(): Promise<{
    readonly overlays: readonly {
      readonly pid: number;
      readonly point: Buffer;
      readonly source: Buffer;
      readonly options: Buffer;
    }[];
    /** Processes that may not be looked at. */
    readonly unseen: number;
  }>;
  /** The descriptors of all layers of this process's own overlays. Synchronous. */
  liveLayers(): readonly number[];
  /** Of the layers that a walk holds open: lowers, those that only hold data, upper, work directory. */
  layerFacts(changes: NativeChanges): Promise<readonly DirectoryFacts[]>;
  /** On the layers that a walk holds open; they stay so until `closeApply`. */
  openApply(
    changes: NativeChanges,
    target: NativeRef,
  ): Promise<{
    readonly apply: NativeApply;
    /** As of {@link NativeApplied}, of a run before. */
    readonly left: readonly Buffer[];
  }>;
  /** Changes as lib/changes/apply-pack.ts packs them. */
  applyCheck(apply: NativeApply, changes: Buffer, token: NativeCancel): Promise<readonly NativeConflict[]>;
  /** What `applyRun` would leave out beside. */
  applyDecide(apply: NativeApply, decisions: Buffer): Promise<Buffer>;
  /** By change: 0 as it is, 1 left out, 2 all the same. Rejects with {@link NativeApplyFailure}. */
  applyRun(apply: NativeApply, decisions: Buffer, token: NativeCancel): Promise<NativeApplied>;
  applyProgress(
    apply: NativeApply,
  ): { phase: 'checking' | 'copying' | 'placing'; entries: number; bytes: bigint } | undefined;
  closeApply(apply: NativeApply): void;
  openChanges(stack: NativeStack, options: NativeChangeOptions): Promise<NativeChanges>;
  /** One at a time; waits. ECANCELED once it is closed. */
  nextChanges(changes: NativeChanges): Promise<NativeChangeBatch>;
  openChangeSource(changes: NativeChanges, layer: number, path: Buffer): Promise<NativeOpened>;
  /** Ends the walk within milliseconds; sources can still be opened. */
  cancelChanges(changes: NativeChanges): void;
  /** The same, and waits until no more than the layers themselves is open; when no `nextChanges` is under way any more. */
  endChanges(changes: NativeChanges): Promise<void>;
  /** The same, and lets go of the layers too. */
  closeChanges(changes: NativeChanges): Promise<void>;
  /** Rejects with {@link NativeStoreFailure}. */
  runStoreSteps(root: NativeRef, steps: readonly NativeStoreStep[], durable: boolean): Promise<void>;
  /** flock(2) on a directory below the root, until `closeOpened`; never waits: EWOULDBLOCK. Then reads, as `readStore`. */
  lockInStore(
    root: NativeRef,
    path: Buffer,
    exclusive: boolean,
    paths: NativePaths,
    most: number,
  ): Promise<NativeOpened & { readonly read: Buffer }>;
  /** Packed: native/core/store_read.h says how. A file larger than `most` is not read. */
  readStore(root: NativeRef, paths: NativePaths, most: number): Promise<Buffer>;
  /** Of directories; packed: native/core/store_read.h says how. */
  readStoreNames(root: NativeRef, paths: NativePaths): Promise<Buffer>;
  /** The lock that somebody else holds on a file, by the call that it is held with. A missing file has none. */
  fileLock(path: Buffer): Promise<NativeFileLock>;
  /** Fills an empty directory below the root with what lies in `from`; native/core/layer_copy.h. */
  copyLayer(
    from: NativeRef,
    root: NativeRef,
    path: Buffer,
    xattrPrefix: string,
    cancel: NativeCancel,
    progress?: NativeProgress,
  ): Promise<void>;
  /** Fills an empty directory below the root with the merged tree of a stack; native/core/merged_links.h. */
  linkMerged(
    stack: NativeStack,
    root: NativeRef,
    path: Buffer,
    cancel: NativeCancel,
    progress: NativeProgress,
  ): Promise<void>;
  /** Of a directory below the root, with the tree that was linked together from it, if there is one; bytes. */
  measureLayer(
    root: NativeRef,
    path: Buffer,
    shared: boolean,
    cancel: NativeCancel,
    tree?: Buffer,
  ): Promise<{
    readonly apparent: bigint;
    readonly allocated: bigint;
    readonly inodes: bigint;
    readonly hardLinked: bigint;
    readonly reflinked: bigint;
  }>;
  newCancel(): NativeCancel;
  cancel(token: NativeCancel): void;
}

/** A verb on paths of one layer; what it does is in the outcomes. */
export type NativeBatchVerb = (
  layer: NativeRef,
  paths: NativePaths,
  xattrPrefix: string,
  cancel: NativeCancel,
) => Promise<NativeBatch>;

/** The verbs of the test build alone: the named system call lets `skip` calls through, then fails `times` of them. */
export interface FaultBinding extends Binding {
  planFault(call: string, errno: number, skip: number, times: number): void;
  /** How often each call has been asked for since the last time. */
  clearFaults(): Record<string, number>;
}
