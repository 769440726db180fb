/**
 * Why a store does not do what it is asked to.
 * @module
 */
import { constants } from 'node:os';
import { type OverlayError, overlayError } from '../errors.ts';
import { explainNative, isNativeError, nativeDetails, whatFailed } from '../native-errors.ts';

const { errno } = constants;

/** A verb's error, where nothing more telling is known of it. */
export function explainStore(error: unknown, what: string): unknown {
  if (!isNativeError(error)) return error;
  if ([errno.ENOSPC, errno.EDQUOT].includes(-error.errno)) {
    return overlayError(
      'ERR_OVERLAY_NO_SPACE',
      `${what}: there is no room in the store: ${whatFailed(error)}`,
      'Make room, or remove layers that are not needed',
      nativeDetails(error),
    );
  }
  return explainNative(error, 'ERR_OVERLAY_STORE_FAILED', what);
}

export const layerNotFound = (id: string, root: string): OverlayError =>
  overlayError(
    'ERR_OVERLAY_STORE_LAYER_NOT_FOUND',
    `the store ${root} has no layer ${id}`,
    'list() tells which there are',
    { path: `${root}/${id}` },
  );

export const layerExists = (id: string, root: string): OverlayError =>
  overlayError(
    'ERR_OVERLAY_STORE_LAYER_EXISTS',
    `the store ${root} has a layer ${id} already`,
    'Use another id, or remove that layer first',
    { path: `${root}/${id}` },
  );

/** What lies on disk is not what a layer is made of. */
export const layerDamaged = (id: string, root: string, what: string): OverlayError =>
  overlayError(
    'ERR_OVERLAY_STORE_LAYER_DAMAGED',
    `layer ${id} of the store ${root} is damaged: ${what}`,
    'check() tells all that is wrong, and mends what can be mended with repair: true',
    { path: `${root}/${id}` },
  );

export const layerReadonly = (id: string, why: string): OverlayError =>
  overlayError(
    'ERR_OVERLAY_STORE_LAYER_READONLY',
    `layer ${id} is read-only: ${why}`,
    'Create a layer on top of it, and change that one',
  );

export const layerInUse = (id: string, how: string): OverlayError =>
  overlayError('ERR_OVERLAY_STORE_LAYER_IN_USE', `layer ${id} is in use: ${how}`, 'Unmount it first');
