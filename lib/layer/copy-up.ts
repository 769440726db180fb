/**
 * Copying up without a mount: the upper is written as overlayfs itself would write it.
 * @module
 */
import { binding } from '../addon.ts';
import { cancellable } from '../cancel.ts';
import { invalidArgument, OverlayError } from '../errors.ts';
import { kernelFeatures, probeRungs } from '../inspect/kernel.ts';
import { findInTables } from '../inspect/layer-use.ts';
import type {
  NativeCancel,
  NativeCopyUpBatch,
  NativeCopyUpError,
  NativeCopyUpStep,
  NativePaths,
  NativeRef,
  NativeStack,
} from '../native/binding.ts';
import { nativeDetails } from '../native-errors.ts';
import { showPath } from '../paths.ts';
import type { DirRef, Finding, LayerSource, LayerStack, PathLike } from '../types.ts';
import { packPathOrPaths } from './batch.ts';
import { explainCopyUp, inUseUnknown } from './copy-up-errors.ts';
import { type CopyUpOptions, CopyUpStream, checkCopyUpOptions, withProgress } from './copy-up-stream.ts';
import { checkStack, settleStack } from './stack.ts';
import { whichLayer } from './which-layer.ts';

/**
 * Copies files, directories and all else up into the upper of a stack that is not mounted, so that no first write in the
 * overlay has to wait for it: data by reflink where the file systems can, all metadata, and `overlay.origin`, as the kernel
 * itself writes them. Parents are made as the kernel makes them. What is in the upper already is skipped, but for metacopy
 * files, which are given their data.
 *
 * It is durable, batch by batch, before a result is given. A process that is killed leaves nothing but files in
 * `work/work` (without `work` in `#overlayfs-staging` at the top of the upper), which the next call removes, and in
 * `work/work` the kernel's next mount too. One that was giving a metacopy file its data leaves a metacopy file still, but
 * its times and capabilities may be lost, as when the kernel is stopped there: the data is written in place.
 *
 * Not as after the kernel's own copy-up: `overlay.uuid` (which is random, and written by a mount), times of birth, change and
 * last access, inode numbers. Hard links become separate files, as they do without an index.
 *
 * @throws OverlayError `ERR_OVERLAY_UPPER_IN_USE` (`WORK_IN_USE`, `WORK_LOCKED`) while something has the layers mounted: use
 * the overlay's own `copyUp()`; `ERR_OVERLAY_HAS_INDEX`, `ERR_OVERLAY_WORK_NEEDED` where an index would have to be kept.
 * What is wrong with one path is an error as `node:fs` makes it; what came before it has been given, and stays.
 *
 * @see https://docs.kernel.org/filesystems/overlayfs.html
 *
 * @example
 * ```ts
 * import { copyUp } from 'overlayfs';
 *
 * const stack = { lower: '/srv/base', upper: '/srv/upper', work: '/srv/work' };
 * await copyUp(stack, ['etc/passwd', 'var/lib/database']);
 * for await (const { path, method, bytes } of copyUp(stack, 'usr/share', { recursive: true })) {
 *   console.log(path, method, bytes); // usr/share/dict clone 985084n
 * }
 * ```
 */
export function copyUp(
  stack: LayerStack | LayerSource,
  paths: PathLike | readonly PathLike[],
  options: CopyUpOptions = {},
): CopyUpStream {
  const check = () => ({
    stack: checkStack(stack),
    paths: packPathOrPaths(paths).packed,
    options: checkCopyUpOptions(options),
  });
  // Checked at once, so that a relative path means what it means now; said when the stream is asked.
  let checked: () => ReturnType<typeof check>;
  try {
    const passed = check();
    checked = () => passed;
  } catch (error) {
    checked = () => {
      throw error;
    };
  }
  return new CopyUpStream((unverified) => carryOut(checked(), unverified), false);
}

interface Checked {
  readonly stack: ReturnType<typeof checkStack>;
  readonly paths: NativePaths;
  readonly options: ReturnType<typeof checkCopyUpOptions>;
}

async function* carryOut(
  { stack, paths, options }: Checked,
  unverified: Finding[],
): AsyncGenerator<NativeCopyUpBatch, void, void> {
  const { recursive, concurrency, signal, progress } = options;
  if (stack.upper === undefined) throw invalidArgument('stack.upper', undefined, 'must be given');
  signal?.throwIfAborted();
  const { native } = await settleStack(stack);
  if (native.index && native.work === undefined) throw explainCopyUp({ refusal: 'work-needed' });
  const features = await kernelFeatures();
  if (!features.initialUserNamespace) await refuseKnownUse(native);
  const counts = binding().newProgress();
  const order = {
    paths,
    recursive,
    concurrency,
    rungs: probeRungs(features),
    detachedLayers: features.detachedLayers,
    canTellInUse: features.initialUserNamespace,
    progress: counts,
  };
  const told = <T>(verb: (token: NativeCancel) => Promise<T>): Promise<T> =>
    cancellable(signal, (token) =>
      withProgress(
        progress,
        () => binding().readProgress(counts),
        verb(token),
        () => binding().cancel(token),
      ),
    );
  const first = await told((token) => binding().startCopyUp(native, order, token).catch(explain));
  const { session } = first;
  if (first.inUseUnknown !== '') unverified.push(inUseUnknown(first.inUseUnknown));
  try {
    for (let batch: NativeCopyUpStep = first; ; ) {
      if (batch.methods.length > 0) yield batch;
      if (batch.error !== undefined) {
        signal?.throwIfAborted();
        throw await explainPath(batch.error, native);
      }
      if (!batch.more || session === undefined) return;
      batch = await told((token) => binding().nextCopyUp(session, token));
    }
  } finally {
    if (session !== undefined) await binding().closeCopyUp(session);
  }
}

// Inside a user namespace the kernel does not tell, but mount tables may.
async function refuseKnownUse({ upper, work }: NativeStack): Promise<void> {
  for (const [ref, refusal] of [
    [upper, 'upper-in-use'],
    [work, 'work-in-use'],
  ] as const) {
    if (ref !== undefined && (await findInTables(ref)) !== undefined) throw explainCopyUp({ refusal });
  }
}

function explain(error: unknown): never {
  throw explainCopyUp(error);
}

// What the options do not honour, or what is damaged, is found where whichLayer() finds it.
async function explainPath(error: NativeCopyUpError, stack: NativeStack): Promise<unknown> {
  if (error.syscall !== 'lookup' || error.path === undefined) return explainCopyUp(error);
  const ref = (one: NativeRef): DirRef => (typeof one === 'number' ? { fd: one } : one);
  const { upper, work, ...rest } = stack;
  const { findings } = await whichLayer(
    {
      ...rest,
      lower: stack.lower.map(ref),
      dataOnlyLower: stack.dataOnlyLower.map(ref),
      ...(upper === undefined ? {} : { upper: ref(upper) }),
      ...(work === undefined ? {} : { work: ref(work) }),
    },
    error.path,
  );
  const [first, ...others] = findings.filter(({ severity }) => severity === 'error');
  return first === undefined
    ? explainCopyUp(error)
    : new OverlayError([first, ...others], { ...nativeDetails(error), path: showPath(error.path) });
}
