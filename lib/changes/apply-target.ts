/**
 * Whether a directory may be written to: no layer lies in it, it lies in no layer, and no live overlay uses it.
 * @module
 */
import { binding } from '../addon.ts';
import { type OverlayError, overlayError } from '../errors.ts';
import { kernelFeatures } from '../inspect/kernel.ts';
import { findInTables } from '../inspect/layer-use.ts';
import { isKnown, relation } from '../inspect/relation.ts';
import type { DirectoryFacts, NativeRef } from '../native/binding.ts';
import { showPath, showRef } from '../paths.ts';
import { explainTarget } from './apply-errors.ts';
import type { ChangeOrigin } from './origin.ts';

/**
 * Throws `ERR_OVERLAY_TARGET_OVERLAPS` for a target that lies in a layer of the stack or holds one; a lower itself may be the
 * target. Containment is told by superblock and path within the file system, since a bind mount hides it from `..`.
 */
export async function refuseOverlap(target: NativeRef, { stack, walk }: ChangeOrigin): Promise<void> {
  const { lower, dataOnlyLower, upper, work } = stack;
  const layers: readonly (readonly [role: string, ref: NativeRef, itself: boolean])[] = [
    ...lower.map((ref) => ['lower', ref, true] as const),
    ...dataOnlyLower.map((ref) => ['data-only lower', ref, false] as const),
    ...(upper === undefined ? [] : [['upper', upper, false] as const]),
    ...(work === undefined ? [] : [['work directory', work, false] as const]),
  ];
  const [[own], facts] = await Promise.all([
    binding().directoryFacts([target]),
    binding().layerFacts(walk()),
  ]);
  for (const [index, one] of facts.entries()) {
    const [role, ref, itself] = layers[index] as (typeof layers)[number];
    const how = relation(own, one);
    if (how === undefined || (how === 'is' && itself)) continue;
    throw overlayError(
      'ERR_OVERLAY_TARGET_OVERLAPS',
      `the target ${showRef(target)} ${how} the ${role} ${nameOf(ref, one)} of the changes`,
      'Name a directory apart from the layers: a copy of the lower, or the lower itself',
      { path: showRef(target) },
    );
  }
}

// The number of a descriptor that has been closed names nothing, or something else.
const nameOf = (ref: NativeRef, facts: DirectoryFacts): string =>
  typeof ref === 'number' && isKnown(facts) ? showPath(facts.canonicalPath) : showRef(ref);

/** Throws `ERR_OVERLAY_TARGET_IN_USE` for a target that a live overlay has as a layer. */
export async function refuseInUse(target: NativeRef): Promise<void> {
  const how = await findUse(target);
  if (how !== undefined) throw inUse(target, how);
}

/**
 * How a live overlay has a directory as a layer; undefined: none does. Of an upper or work directory the
 * kernel itself is asked. Of a lower it keeps no mark: what is looked at is every overlay of this process, detached ones
 * too, and the mount tables of all namespaces that /proc shows. Another process's detached overlay is in none. A layer that
 * is a whole file system is passed over, unless it is the target: everything on it would lie in it.
 */
export async function findUse(target: NativeRef): Promise<string | undefined> {
  const { detachedLayers, initialUserNamespace } = await kernelFeatures();
  if (initialUserNamespace) {
    const { answer } = await binding()
      .directoryInUse(target, detachedLayers)
      .catch((error) => {
        throw explainTarget(error, target);
      });
    if (answer === 'yes') return 'as upper or work directory';
  }
  return findInTables(target);
}

function inUse(target: NativeRef, how: string): OverlayError {
  return overlayError(
    'ERR_OVERLAY_TARGET_IN_USE',
    `the target ${showRef(target)} is in use ${how}; the kernel leaves undefined what happens when a layer changes under it`,
    'Unmount that overlay, or name a copy of the directory',
    { path: showRef(target) },
  );
}
