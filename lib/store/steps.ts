/**
 * What is done to a store on disk, as plain data: the native side carries the steps out in this order.
 * @module
 */
import type { NativeStoreAction, NativeStoreStep } from '../native/binding.ts';

/** One step; its paths lie below the store's root. */
export type Step = NativeStoreStep;

const nothing = Buffer.alloc(0);

const on = (action: NativeStoreAction, path: string, other: Buffer = nothing, mode = 0): Step => [
  action,
  Buffer.from(path),
  other,
  mode,
];

/** Holds a directory's lock until all steps are done. Locks come first: one that is not to be had then undoes nothing. */
export const lockShared = (path: string): Step => on('lock-shared', path);
export const lockExclusive = (path: string): Step => on('lock-exclusive', path);
/** Lets go of the locks: what comes then may take long. */
export const unlock: Step = on('unlock', '');
/** Goes on only if the file has exactly these bytes. */
export const expectBytes = (path: string, bytes: Buffer): Step => on('expect', path, bytes);
/** Goes on only if no live overlay writes to the directory; else EBUSY. */
export const expectUnused = (path: string, detachedLayers: boolean): Step =>
  on('unused', path, nothing, detachedLayers ? 1 : 0);
export const makeDirectory = (path: string, mode: number): Step => on('mkdir', path, nothing, mode);
export const writeFile = (path: string, content: string, mode: number): Step =>
  on('write', path, Buffer.from(content), mode);
/** Atomically, whatever stands there. */
export const replaceFile = (path: string, content: string, mode: number): Step =>
  on('replace', path, Buffer.from(content), mode);
export const ensureFile = (path: string, mode: number): Step => on('ensure', path, nothing, mode);
export const makeLink = (path: string, target: string): Step => on('symlink', path, Buffer.from(target));
/** Fails with EEXIST where `to` is there. */
export const rename = (path: string, to: string): Step => on('rename', path, Buffer.from(to));
export const exchange = (path: string, other: string): Step => on('exchange', path, Buffer.from(other));
export const unlink = (path: string): Step => on('unlink', path);
export const removeEmpty = (path: string): Step => on('rmdir', path);
/** With everything in it, but never what is mounted there. */
export const removeTree = (path: string): Step => on('remove', path);
/** A directory, where the store is durable. */
export const sync = (path: string): Step => on('sync', path);
export const syncFileSystem = (path: string): Step => on('syncfs', path);

/** What takes these back, as far as they have moved something. */
export const takenBack = (steps: readonly Step[]): Step[] =>
  steps.toReversed().flatMap((step): Step[] => {
    const [action, path, other, mode] = step;
    if (action === 'exchange') return [step];
    return action === 'rename' ? [[action, other as Buffer, path, mode as number]] : [];
  });
