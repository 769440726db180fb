import { binding } from '../addon.ts';
import { cancellable } from '../cancel.ts';
import { type ApplyProgress, type ApplyResult, applyChanges } from '../changes/apply.ts';
import type { Change } from '../changes/change.ts';
import type { ChangeStream } from '../changes/stream.ts';
import { overlayError } from '../errors.ts';
import { liesIn } from '../inspect/relation.ts';
import { type CheckedStack, overlayXattrsAreUser } from '../layer/stack.ts';
import type { NativeRef } from '../native/binding.ts';
import { isNativeError } from '../native-errors.ts';
import { mountChecked } from '../overlay/mount.ts';
import { showRef } from '../paths.ts';
import { isMarked } from './children.ts';
import {
  childrenOf,
  hasUnmarkedChild,
  loadLayer,
  lockLayer,
  publicLayer,
  type StoreContext,
  stage,
} from './context.ts';
import { copyContent } from './copy.ts';
import { createFilledLayer } from './create.ts';
import type { LayerRecord, Placing } from './driver.ts';
import { explainStore, layerDamaged, layerInUse, layerReadonly } from './errors.ts';
import { newPrivateName } from './ids.ts';
import { usedAtAll } from './in-use.ts';
import { newDirectory, ownDirectory } from './layout.ts';
import { bootId, damagedSidecar, encodeSidecar, hasDamagedSidecar, sidecarName } from './sidecar.ts';
import {
  exchange,
  lockShared,
  makeDirectory,
  removeTree,
  sync,
  syncFileSystem,
  takenBack,
  writeFile,
} from './steps.ts';
import type { FillOptions, Layer, Usage } from './types.ts';

/** What {@link applyToLayer} is given: a directory, or changes over what the layer's parents show. */
export type Content =
  | { readonly directory: NativeRef }
  | { readonly changes: ChangeStream | Iterable<Change> | AsyncIterable<Change> };

/** Gives an empty layer its content. */
export async function applyToLayer(
  store: StoreContext,
  id: string,
  content: Content,
  options: FillOptions,
): Promise<Layer> {
  const { directory, driver } = store;
  if ('directory' in content) await refuseItself(store, content.directory);
  using _ = await lockLayer(store, id, 'exclusive');
  const layer = await loadLayer(store, id);
  const chain = await driver.chain(directory, layer);
  await mustBeFillable(store, layer);
  const at = `${newDirectory}/${newPrivateName()}`;
  using _staging = await stage(store, at, [makeDirectory(at, 0o710), makeDirectory(`${at}/content`, 0o755)]);
  try {
    if ('directory' in content) await copyContent(directory, content.directory, `${at}/content`, options);
    else await carryOver(store, content.changes, (await changedStack(store, id)).lower, at, options);
    const placing = await driver.fill(directory, { kind: layer.kind, chain, options }, at, id);
    await putInPlace(store, layer, at, placing);
  } catch (error) {
    throw explainStore(error, `filling layer ${id} of ${directory.shown}`);
  } finally {
    await directory.run([removeTree(at)], false).catch(() => {});
  }
  return publicLayer(store, layer, chain[0]);
}

/** Makes an image layer of what a container layer holds. */
export async function commitLayer(
  store: StoreContext,
  containerId: string,
  id: string,
  options: FillOptions,
): Promise<Layer> {
  const { directory, driver } = store;
  using _ = await lockLayer(store, containerId, 'exclusive');
  const container = await loadLayer(store, containerId);
  const [parent] = await driver.chain(directory, container);
  const how = await usedAtAll(store, container);
  if (how !== undefined) throw layerInUse(containerId, how);
  const content = `${containerId}/${driver.content(container)}`;
  await directory.mustBeDirectories([content]);
  const layer = { kind: 'image', ...(parent === undefined ? {} : { parent }) } as const;
  return await createFilledLayer(store, id, layer, directory.bytesOf(content), options);
}

/** The stack whose upper is the layer's own content, whatever it is mounted as. */
export async function changedStack(store: StoreContext, id: string): Promise<CheckedStack> {
  const { directory, driver } = store;
  const layer = await loadLayer(store, id);
  const chain = await driver.chain(directory, layer);
  const { lower, upper, work } = await driver.difference(directory, layer, chain);
  await directory.mustBeDirectories([...lower, upper]);
  return {
    lower: lower.map((path) => directory.bytesOf(path)),
    dataOnlyLower: [],
    upper: directory.bytesOf(upper),
    ...(work === undefined ? {} : { work: directory.bytesOf(work) }),
  };
}

/** How much a layer takes. */
export async function usageOfLayer(
  store: StoreContext,
  id: string,
  shared: boolean,
  signal: AbortSignal | undefined,
): Promise<Usage> {
  const { directory, driver } = store;
  const layer = await loadLayer(store, id);
  const path = Buffer.from(`${id}/${driver.content(layer)}`);
  const name = driver.tree?.(layer);
  const tree = name === undefined ? [] : [Buffer.from(`${id}/${name}`)];
  const measured = await cancellable(signal, (token) =>
    binding()
      .measureLayer(directory.ref, path, shared, token, ...tree)
      .catch((error) => {
        throw explainStore(error, `measuring layer ${id} of ${directory.shown}`);
      }),
  );
  const { hardLinked, reflinked, ...usage } = measured;
  return shared ? { ...usage, shared: { hardLinked, reflinked } } : usage;
}

async function refuseItself({ directory }: StoreContext, content: NativeRef): Promise<void> {
  if (!(await liesIn(directory.bytesOf(newDirectory), content))) return;
  throw overlayError(
    'ERR_OVERLAY_TARGET_OVERLAPS',
    `the store ${directory.shown} lies in ${showRef(content)}, which would be copied into itself`,
    'Name a directory apart from the store',
    { path: showRef(content) },
  );
}

async function mustBeFillable(store: StoreContext, layer: LayerRecord): Promise<void> {
  const { directory, driver } = store;
  if (hasDamagedSidecar(layer)) throw layerDamaged(layer.id, directory.shown, damagedSidecar);
  // An image keeps the mark when its last child goes, or comes to nothing.
  const marked =
    isMarked(layer) && (layer.kind !== 'image' || (await childrenOf(store, layer.id)).length > 0);
  if (marked || (await hasUnmarkedChild(store, layer))) throw layerReadonly(layer.id, 'it has a child');
  const how = await usedAtAll(store, layer);
  if (how !== undefined) throw layerInUse(layer.id, how);
  // A tree that is there is whole, even if its maker was killed before he could note it.
  const given =
    layer.kind === 'image' && (layer.sidecar?.state === 'filled' || driver.tree?.(layer) !== undefined);
  if (given) throw layerReadonly(layer.id, 'it has its content already');
  // An image that nobody has filled has no more than its driver has put there.
  if (layer.kind === 'image' && layer.sidecar?.state === 'empty') return;
  const names = await directory.names(`${layer.id}/${driver.content(layer)}`);
  if (names.length > 0) throw layerReadonly(layer.id, 'it has its content already');
}

// The kernel writes the whiteouts and opaque marks itself. Directories are moved out of the way before they go, which it
// does only with redirects; one that was renamed stays as a redirect, which every mount follows unless told not to.
async function carryOver(
  { directory }: StoreContext,
  changes: ChangeStream | Iterable<Change> | AsyncIterable<Change>,
  lower: readonly NativeRef[],
  at: string,
  { signal, onProgress }: FillOptions,
): Promise<void> {
  const stopping = signal === undefined ? {} : { signal };
  const options = {
    ...stopping,
    ...(onProgress === undefined
      ? {}
      : { onProgress: ({ entries, bytes }: ApplyProgress) => onProgress({ entries, bytes }) }),
  };
  if (lower.length === 0) {
    return mustBeTidy(await applyChanges(changes, directory.bytesOf(`${at}/content`), options));
  }
  await directory.run([makeDirectory(`${at}/work`, 0o700)], false);
  await using overlay = await mountChecked({
    lower,
    dataOnlyLower: [],
    upper: directory.bytesOf(`${at}/content`),
    work: directory.bytesOf(`${at}/work`),
    ...((await overlayXattrsAreUser(undefined)) ? {} : { redirectDir: 'on' as const }),
    ...stopping,
  });
  mustBeTidy(await applyChanges(changes, overlay.path(), options));
}

// What was put aside and could not be removed would be content.
function mustBeTidy({ left: [path] }: ApplyResult): void {
  if (path === undefined) return;
  throw overlayError(
    'ERR_OVERLAY_STORE_FAILED',
    `what the changes had put aside could not be removed: ${path}`,
    'See why the file system refuses it, and fill the layer again',
    { path },
  );
}

// What needs room has it before anything is put in place.
async function putInPlace(
  { directory, durability }: StoreContext,
  { id, sidecar }: LayerRecord,
  at: string,
  { place, tidy }: Placing,
): Promise<void> {
  const [note, noted] = [`${at}/${sidecarName}`, `${id}/${sidecarName}`];
  const text =
    sidecar && encodeSidecar({ ...sidecar, state: 'filled' as const, durability, bootId: bootId() });
  const steps = [
    lockShared(ownDirectory),
    ...(text === undefined ? [] : [writeFile(note, text, 0o600)]),
    ...(durability === 'syncfs' ? [syncFileSystem(at)] : []),
    ...place,
    ...(text === undefined ? [] : [exchange(note, noted)]),
    sync(at),
    sync(id),
  ];
  const durable = durability !== 'none';
  try {
    await directory.run(steps, durable);
  } catch (error) {
    const done = isNativeError(error) ? ((error as { step?: number }).step ?? 0) : 0;
    const back = [lockShared(ownDirectory), ...takenBack(steps.slice(0, done)), sync(id)];
    await directory.run(back, durable).catch(() => {});
    throw error;
  }
  await directory.run(tidy, durable).catch(() => {});
}
