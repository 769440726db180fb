// The public types, pinned: compiled by tsc with the tests, never run.
import type { FileHandle } from 'node:fs/promises';
import {
  type DirRef,
  type ErrorCode,
  type ErrorKind,
  errorCodes,
  type Finding,
  type LayerSource,
  type LayerStack,
  type listOverlays,
  type MountEvent,
  type MountedOverlay,
  type MountFlag,
  type MountFlags,
  type MountRef,
  type MountReport,
  type mountOverlay,
  type OrphanResult,
  type Overlay,
  OverlayError,
  type OverlayOptions,
  type OverlayPlan,
  type OverlayUnmountOptions,
  type PathLike,
  type Propagation,
  type planOverlay,
  type Rung,
  type UnmountEvent,
  type UnmountOptions,
  type unmount,
  type unmountOrphans,
} from '../../lib/index.ts';

/** Compiles only where both types are one and the same. */
type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
const same = <A, B>(_same: Same<A, B>): void => {};

same<PathLike, string | Uint8Array | URL>(true);
same<DirRef, PathLike | { readonly fd: number }>(true);
same<ErrorKind, 'policy' | 'kernel' | 'unpredictable'>(true);
same<ErrorCode, keyof typeof errorCodes>(true);
same<Rung, 'layer-fds' | 'layer-names' | 'joined-names' | 'mount' | 'mount-fd-names'>(true);
same<Propagation, 'private' | 'slave' | 'shared' | 'unbindable'>(true);
same<
  MountFlag,
  | 'readonly'
  | 'nosuid'
  | 'nodev'
  | 'noexec'
  | 'noatime'
  | 'strictatime'
  | 'nodiratime'
  | 'idmapped'
  | 'nosymfollow'
>(true);
same<keyof MountFlags, 'noexec' | 'nosuid' | 'nodev' | 'noatime' | 'nodiratime' | 'relatime' | 'strictatime'>(
  true,
);
same<
  keyof LayerStack,
  'lower' | 'dataOnlyLower' | 'upper' | 'work' | 'index' | 'metacopy' | 'userxattr' | 'redirectDir'
>(true);
same<
  Exclude<keyof OverlayOptions, keyof LayerStack>,
  | 'scratch'
  | 'target'
  | 'mkdirTarget'
  | 'readonly'
  | 'allowSingleLower'
  | 'keepOnExit'
  | 'checkInUse'
  | 'removeVolatileMarker'
  | 'strict'
  | 'xino'
  | 'nfsExport'
  | 'uuid'
  | 'verity'
  | 'volatile'
  | 'kernelOptions'
  | 'mountFlags'
  | 'propagation'
  | 'source'
  | 'mountApi'
  | 'unmountOnSignals'
  | 'signal'
>(true);

// Functions.
same<typeof mountOverlay, (options: OverlayOptions) => Promise<Overlay>>(true);
same<typeof planOverlay, (options: OverlayOptions) => Promise<OverlayPlan>>(true);
same<typeof listOverlays, () => Promise<MountedOverlay[]>>(true);
same<typeof unmount, (target: PathLike, options?: UnmountOptions) => Promise<void>>(true);
same<typeof unmountOrphans, (options?: { readonly dryRun?: boolean }) => Promise<OrphanResult[]>>(true);

// The handle.
same<Overlay['target'], string | undefined>(true);
same<Overlay['targetBytes'], Buffer | undefined>(true);
same<Overlay['mountId'], bigint>(true);
same<Overlay['fd'], number | undefined>(true);
same<Overlay['plan'], OverlayPlan>(true);
same<Overlay['report'], MountReport>(true);
same<Overlay['path'], (...segments: PathLike[]) => string>(true);
same<Overlay['pathBytes'], (...segments: PathLike[]) => Buffer>(true);
same<ReturnType<Overlay['open']>, Promise<FileHandle>>(true);
same<Overlay['openRoot'], () => Promise<number>>(true);
same<Overlay['remount'], (options: { readonly readonly: boolean }) => Promise<void>>(true);
same<Overlay['unmount'], (options?: OverlayUnmountOptions) => Promise<void>>(true);
export const handle = (overlay: Overlay): AsyncDisposable & LayerSource & MountRef => overlay;

// Errors and events.
export const error = (one: OverlayError): Error & { code: string; findings: readonly Finding[] } => one;
export const kind: ErrorKind = errorCodes.ERR_OVERLAY_BUSY;
same<MountEvent['rung'], string | undefined>(true);
same<UnmountEvent['lazy'], boolean>(true);
same<(typeof errorCodes)['ERR_OVERLAY_NO_SPACE'], 'unpredictable'>(true);
export const isError = (value: unknown): value is OverlayError => value instanceof OverlayError;

// What must be taken …
export const right: OverlayOptions[] = [
  { lower: '/a', upper: '/u', work: '/w', target: '/m' },
  { lower: ['/a', Buffer.from('/b'), new URL('file:///c'), { fd: 3 }] as const },
  { lower: '/a', scratch: true },
  { lower: '/a', scratch: { size: 4096n } },
  { lower: '/a', kernelOptions: { fsync: 'strict', default_permissions: true } },
  { lower: '/a', unmountOnSignals: ['SIGTERM', 'SIGINT'], signal: new AbortController().signal },
];

// … and what must not.
export const wrong: OverlayOptions[] = [
  // @ts-expect-error a lower is required
  { upper: '/u', work: '/w' },
  // @ts-expect-error a misspelt option
  { lower: '/a', uper: '/u' },
  // @ts-expect-error sizes are bigint
  { lower: '/a', scratch: { size: 4096 } },
  // @ts-expect-error what `off` means depends on a module parameter
  { lower: '/a', redirectDir: 'off' },
  // @ts-expect-error a path, not its number
  { lower: 3 },
  // @ts-expect-error a target is a path, not a descriptor
  { lower: '/a', target: { fd: 3 } },
  // @ts-expect-error no signal of this name
  { lower: '/a', unmountOnSignals: ['SIGNOTHING'] },
];
