/**
 * Kernel overlay mounts for Node.js.
 *
 * @packageDocumentation
 */

export {
  type ApplyOptions,
  type ApplyProgress,
  type ApplyResult,
  applyChanges,
  type ConflictDecision,
} from './changes/apply.ts';
export type { ApplyConflict, ApplyHalfDone } from './changes/apply-errors.ts';
export type { Change, ChangeField, ChangeKind, ChangeSource } from './changes/change.ts';
export { type ChangeOptions, changes } from './changes/changes.ts';
export type { MergedDirent, MergedStats } from './changes/merged-record.ts';
export {
  type MergedTreeEntry,
  MergedView,
  type MergedViewOptions,
  mergedView,
  type WalkOptions,
} from './changes/merged-view.ts';
export type { ChangeResult, ChangeStream } from './changes/stream.ts';
export {
  formatSummary,
  type Summary,
  type SummaryOptions,
  type SummaryPath,
  summarize,
} from './changes/summary.ts';
export {
  type ErrorCode,
  type ErrorKind,
  errorCodes,
  OverlayError,
  type OverlayErrorDetails,
} from './errors.ts';
export type { CopyUpEvent, MountEvent, UnmountEvent } from './events.ts';
export type { Answer } from './inspect/answer.ts';
export type { DirectorySupport } from './inspect/directory-support.ts';
export { holders } from './inspect/holders.ts';
export { type ListedLayer, listOverlays, type MountedOverlay } from './inspect/mount-table.ts';
export type { OwnerTag } from './inspect/owner.ts';
export { type Feature, type Support, support, type UserNamespaces } from './inspect/support.ts';
export type { BatchProgress, LayerOptions } from './layer/batch.ts';
export { copyUp } from './layer/copy-up.ts';
export type {
  CopyMethod,
  CopyUpOptions,
  CopyUpProgress,
  CopyUpResult,
  CopyUpStream,
} from './layer/copy-up-stream.ts';
export type { FileType } from './layer/file-type.ts';
export { clearOpaque, isOpaque, type OpaqueForm, setOpaque } from './layer/opaque.ts';
export {
  decodeIndexName,
  decodeOverlayXattr,
  type EncodedXattr,
  encodeIndexName,
  encodeOverlayXattr,
  escapeOverlayXattr,
  type MetacopyDigest,
  type OverlayHandle,
  type OverlayXattr,
  type OverlayXattrNamespace,
  type OverlayXattrValue,
  unescapeOverlayXattr,
} from './layer/overlay-xattr.ts';
export type { LayerPlace } from './layer/place.ts';
export { type OpenLayers, openLayers } from './layer/stack.ts';
export {
  type HiddenPlace,
  type LayerStep,
  type WhichLayer,
  whichLayer,
} from './layer/which-layer.ts';
export {
  createWhiteout,
  createWhiteouts,
  isWhiteout,
  type RenameWithWhiteoutOptions,
  removeWhiteout,
  renameWithWhiteout,
  type WhiteoutForm,
  type WhiteoutOptions,
  type WhiteoutOutcome,
  type WhiteoutsResult,
} from './layer/whiteout.ts';
export {
  type OverlayXattrEntry,
  readOverlayXattrs,
  type StripOptions,
  type StripResult,
  stripOverlayXattrs,
  writeOverlayXattrs,
} from './layer/xattrs.ts';

export type {
  ConflictReason,
  HidingReason,
  LayerStepKind,
  MountFlag,
  Propagation,
  Rung,
} from './native/binding.ts';

export { doctor } from './overlay/doctor.ts';
export { mountOverlay, planOverlay } from './overlay/mount.ts';
export type { MountFlags, OverlayOptions } from './overlay/options.ts';
export { type OrphanResult, unmountOrphans } from './overlay/orphans.ts';
export { Overlay, type OverlayUnmountOptions } from './overlay/overlay.ts';
export type { OverlayPlan } from './overlay/plan.ts';
export type { RenameOptions, RenameProgress, RenameResult } from './overlay/rename.ts';
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
