/**
 * What this package keeps in a store's root directory for itself. Docker's drivers take no notice of it.
 * @module
 */

/** The directory; its lock is shared by whoever gives layers their names or takes them, and exclusive to who cleans up. */
export const ownDirectory = '.overlayfs';
/** Says that the store is ours, and which driver's. */
export const markerName = `${ownDirectory}/store.json`;
/** Layers that are being made, each under its maker's lock for as long as that lives. */
export const newDirectory = `${ownDirectory}/new`;
/** Layers that are being deleted. */
export const removedDirectory = `${ownDirectory}/removed`;
