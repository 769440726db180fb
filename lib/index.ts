/**
 * Kernel overlay mounts for Node.js.
 *
 * @packageDocumentation
 */
export {
  type ErrorCode,
  type ErrorKind,
  errorCodes,
  OverlayError,
  type OverlayErrorDetails,
} from './errors.ts';
export type { MountEvent, UnmountEvent } from './events.ts';
export type { Answer } from './inspect/answer.ts';
export type { DirectorySupport } from './inspect/directory-support.ts';
export { holders } from './inspect/holders.ts';
export { type ListedLayer, listOverlays, type MountedOverlay } from './inspect/mount-table.ts';
export type { OwnerTag } from './inspect/owner.ts';
export { type Feature, type Support, support, type UserNamespaces } from './inspect/support.ts';
export { type OpenLayers, openLayers } from './layer/stack.ts';
export type { MountFlag, Propagation, Rung } from './native/binding.ts';
export { doctor } from './overlay/doctor.ts';
export { mountOverlay, planOverlay } from './overlay/mount.ts';
export type { MountFlags, OverlayOptions } from './overlay/options.ts';
export { type OrphanResult, unmountOrphans } from './overlay/orphans.ts';
export { Overlay, type OverlayUnmountOptions } from './overlay/overlay.ts';
export type { OverlayPlan } from './overlay/plan.ts';
export type { MountReport } from './overlay/report.ts';
export { type UnmountOptions, unmount } from './overlay/unmount.ts';
export type {
  DirRef,
  Finding,
  Holder,
  Holders,
  LayerSource,
  LayerStack,
  MountRef,
  PathLike,
  Unseen,
} from './types.ts';
