/**
 * Making layers: under a name that nobody knows, and renamed when they are complete.
 * @module
 */
import { constants } from 'node:os';
import { type OverlayError, overlayError } from '../errors.ts';
import type { NativeRef } from '../native/binding.ts';
import { isNativeError } from '../native-errors.ts';
import { isMarked, unmark } from './children.ts';
import { loadLayer, lockLayer, publicLayer, readLayers, type StoreContext, stage } from './context.ts';
import { copyContent } from './copy.ts';
import type { HeldLock } from './directory.ts';
import type { LayerDraft, LayerPlan, LayerRecord } from './driver.ts';
import { explainStore, layerDamaged, layerExists, layerInUse, layerNotFound } from './errors.ts';
import { newPrivateName } from './ids.ts';
import { usedAsUpper } from './in-use.ts';
import { newDirectory, ownDirectory } from './layout.ts';
import {
  bootId,
  damagedSidecar,
  encodeSidecar,
  hasDamagedSidecar,
  type Sidecar,
  sidecarName,
} from './sidecar.ts';
import {
  lockShared,
  makeDirectory,
  removeEmpty,
  removeTree,
  rename,
  type Step,
  sync,
  syncFileSystem,
  writeFile,
} from './steps.ts';
import type { CreateLayerOptions, FillOptions, Layer } from './types.ts';

/** The kernel stacks no more lowers, and Docker's daemon mounts no more than the second number. */
const MOST_LOWERS = 500;
const DOCKER_LOWERS = 128;
/** Each has been overtaken by another's change of the parent. */
const MOST_DRAFTS = 8;
const { EEXIST, ESTALE, ENOENT } = constants.errno;

/** Makes an empty layer. */
export const createLayer = (store: StoreContext, id: string, options: CreateLayerOptions): Promise<Layer> =>
  whileOutdated(() => tryCreate(store, id, options));

async function tryCreate(store: StoreContext, id: string, options: CreateLayerOptions): Promise<Layer> {
  using making = await draftLayer(store, id, options);
  const { at, plan } = making;
  const { seed } = plan;
  if (seed !== undefined) {
    const { directory } = store;
    await carryOut(store, making, plan.expect);
    await directory.mustBeDirectories([seed.from]);
    return await createStaged(store, making, 'empty', async () => {
      await copyContent(directory, directory.bytesOf(seed.from), `${at}/${seed.to}`, {});
      return [];
    });
  }
  await carryOut(store, making, [
    lockShared(ownDirectory),
    ...parentLock(making),
    ...preparing(making),
    ...publishing(store, making, 'empty'),
  ]);
  return madeLayer(store, making);
}

/** Makes a layer whose content is a copy of a directory. */
export const createFilledLayer = (...made: Parameters<typeof tryCreateFilled>): Promise<Layer> =>
  whileOutdated(() => tryCreateFilled(...made));

async function tryCreateFilled(
  store: StoreContext,
  id: string,
  options: CreateLayerOptions,
  from: NativeRef,
  filling: FillOptions,
): Promise<Layer> {
  const { directory, driver } = store;
  using making = await draftLayer(store, id, options);
  const { at, draft } = making;
  return await createStaged(store, making, 'filled', async () => {
    await directory.run([makeDirectory(`${at}/content`, 0o755)], false);
    await copyContent(directory, from, `${at}/content`, filling);
    const { place, tidy } = await driver.fill(directory, { ...draft, options: filling }, at, at);
    return [...place, ...tidy, removeEmpty(`${at}/content`)];
  });
}

async function createStaged(
  store: StoreContext,
  making: Making,
  state: Sidecar['state'],
  fill: () => Promise<readonly Step[]>,
): Promise<Layer> {
  using _ = await stage(store, making.at, preparing(making));
  const filling = await fill().catch(async (error) => {
    await takeBack(store, making);
    throw explainStore(error, `making layer ${making.draft.id} in ${store.directory.shown}`);
  });
  await carryOut(store, making, [
    lockShared(ownDirectory),
    ...parentLock(making),
    ...filling,
    ...(store.durability === 'syncfs' ? [syncFileSystem(making.at)] : []),
    ...publishing(store, making, state),
  ]);
  return madeLayer(store, making);
}

/** A layer on its way: what it will be, and where it is until then. */
interface Making extends Disposable {
  readonly draft: LayerDraft;
  readonly plan: LayerPlan;
  readonly at: string;
  /** Of a parent that could be written to until now, or that is copied from. */
  readonly lock: HeldLock | undefined;
  readonly exclusive: boolean;
}

async function draftLayer(
  store: StoreContext,
  id: string,
  { kind, parent: parentId }: CreateLayerOptions,
): Promise<Making> {
  const { directory, driver } = store;
  const there = await readLayers(store, parentId === undefined ? [id] : [id, parentId]);
  const found = (wanted: string) => there.find((layer) => layer.id === wanted);
  if (found(id) !== undefined) throw layerExists(id, directory.shown);
  if (parentId === undefined && kind === 'container') throw withoutParent(id);
  if (parentId !== undefined && found(parentId) === undefined) throw layerNotFound(parentId, directory.shown);
  const { parent, lock } = await takeParent(store, parentId === undefined ? undefined : found(parentId));
  try {
    const chain = parent === undefined ? [] : [parent.id, ...(await driver.chain(directory, parent))];
    checkDepth(store, id, chain.length + (kind === 'image' ? 1 : 0));
    const draft = { id, kind, chain, parent };
    const plan = await driver.create(directory, draft);
    const at = `${newDirectory}/${newPrivateName()}`;
    const copied = plan.seed !== undefined && lock === undefined ? parent : undefined;
    const held = copied === undefined ? lock : await lockLayer(store, copied.id, 'shared');
    const exclusive = lock !== undefined;
    return { draft, plan, at, lock: held, exclusive, [Symbol.dispose]: () => held?.release() };
  } catch (error) {
    lock?.release();
    throw error;
  }
}

// From now on it is mounted read-only: who writes to it must not go on, and nobody must begin to before it is marked.
async function takeParent(
  store: StoreContext,
  parent: LayerRecord | undefined,
): Promise<{ readonly parent: LayerRecord | undefined; readonly lock: HeldLock | undefined }> {
  if (parent === undefined) return { parent, lock: undefined };
  if (hasDamagedSidecar(parent)) throw layerDamaged(parent.id, store.directory.shown, damagedSidecar);
  if (parent.readonly) return { parent, lock: undefined };
  const lock = await lockLayer(store, parent.id, 'exclusive');
  try {
    const now = await loadLayer(store, parent.id);
    const how = await usedAsUpper(store, now);
    if (how !== undefined) throw layerInUse(parent.id, how);
    return { parent: now, lock };
  } catch (error) {
    lock.release();
    throw error;
  }
}

function withoutParent(id: string): OverlayError {
  return overlayError(
    'ERR_OVERLAY_STORE_LAYER_NOT_FOUND',
    `container layer ${id} is given no parent, and a base layer cannot be written to through a mount`,
    'Name the image layer that it is to lie on; an empty one will do',
  );
}

const warned = new WeakSet<StoreContext>();

function checkDepth(store: StoreContext, id: string, lowers: number): void {
  if (lowers > MOST_LOWERS) {
    throw overlayError(
      'ERR_OVERLAY_TOO_MANY_LOWERS',
      `layer ${id} would be mounted on ${lowers} layers, and the kernel stacks at most ${MOST_LOWERS}`,
      'Merge some layers into one',
    );
  }
  if (lowers > DOCKER_LOWERS && !warned.has(store)) {
    warned.add(store);
    process.emitWarning(
      `layer ${id} is mounted on ${lowers} layers: Docker's daemon mounts at most ${DOCKER_LOWERS}`,
      { type: 'OverlayWarning', code: 'WARN_OVERLAY_MANY_LAYERS' },
    );
  }
}

// Nobody removes or fills the parent meanwhile.
function parentLock({ draft: { parent }, lock }: Making): Step[] {
  return parent === undefined || lock !== undefined ? [] : [lockShared(parent.id)];
}

const preparing = ({ plan, at }: Making): Step[] => [makeDirectory(at, 0o710), ...plan.prepare(at)];

function publishing(store: StoreContext, making: Making, state: Sidecar['state']): Step[] {
  const { draft, plan, at } = making;
  return [
    writeFile(`${at}/${sidecarName}`, encodeSidecar(sidecarOf(store, draft, state)), 0o600),
    sync(at),
    ...plan.expect,
    ...plan.publish,
    rename(at, draft.id),
    sync(''),
  ];
}

function sidecarOf(
  { driver, durability }: StoreContext,
  draft: LayerDraft,
  state: Sidecar['state'],
): Sidecar {
  const { id, kind, chain } = draft;
  return { version: 1, driver: driver.name, id, kind, chain, state, durability, bootId: bootId() };
}

/** What a plan was made of has changed meanwhile. `cause` is what to say where that never ends. */
class Outdated extends Error {}

async function whileOutdated<T>(attempt: () => Promise<T>): Promise<T> {
  for (let drafts = 1; ; drafts++) {
    try {
      return await attempt();
    } catch (error) {
      if (!(error instanceof Outdated)) throw error;
      if (drafts === MOST_DRAFTS) throw error.cause;
    }
  }
}

async function carryOut(store: StoreContext, making: Making, steps: readonly Step[]): Promise<void> {
  const { directory, durability } = store;
  const { draft } = making;
  try {
    await directory.run(steps, durability !== 'none');
  } catch (error) {
    const at = isNativeError(error) ? ((error as { step?: number }).step ?? 0) : 0;
    const named = steps.findIndex(
      ([action, , to]) => action === 'rename' && to?.equals(Buffer.from(draft.id)),
    );
    // Others see the layer, and may be using it.
    if (named !== -1 && at > named)
      throw explainStore(error, `layer ${draft.id} of ${directory.shown} is there, and may not be durable`);
    await takeBack(store, making);
    const failed = isNativeError(error) ? steps[at]?.[0] : undefined;
    const errno = isNativeError(error) ? -error.errno : 0;
    if (failed === 'rename' && errno === EEXIST) throw layerExists(draft.id, directory.shown);
    const explained = explainStore(error, `making layer ${draft.id} in ${directory.shown}`);
    const parentHasChanged =
      errno === ESTALE ||
      (errno === ENOENT && ['lock-shared', 'lock-exclusive', 'expect'].includes(failed ?? ''));
    if (!parentHasChanged || draft.parent === undefined) throw explained;
    await loadLayer(store, draft.parent.id);
    throw new Outdated('the parent has changed', { cause: explained });
  }
}

// Best effort: what stays is what a killed process leaves, and gc() and check() know what to do with it.
async function takeBack(store: StoreContext, making: Making): Promise<void> {
  const { directory } = store;
  const { plan, at, lock, exclusive } = making;
  const { parent } = making.draft;
  await directory.run([lockShared(ownDirectory), ...plan.withdraw], false).catch(() => {});
  if (!exclusive) lock?.release();
  if (parent !== undefined && !isMarked(parent))
    await unmark(store, parent, exclusive ? lock : undefined).catch(() => {});
  await directory.run([removeTree(at)], false).catch(() => {});
}

function madeLayer(store: StoreContext, { draft: { id, kind, parent } }: Making): Layer {
  const readonly = kind === 'image';
  const sidecar = undefined;
  return {
    ...publicLayer(store, { id, entries: new Map(), sidecar, kind, readonly }, parent?.id),
    own: true,
  };
}
