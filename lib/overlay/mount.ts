/**
 * Mounting an overlay: options → plan → one native call → a handle.
 * @module
 */

import { binding } from '../addon.ts';
import { publishMount } from '../events.ts';
import { kernelFeatures } from '../inspect/kernel.ts';
import type { KernelFeatures, NativeMounted, NativePlan } from '../native/binding.ts';
import { showPath } from '../paths.ts';
import { installExitGate } from './exit.ts';
import { explainMountFailure } from './explain.ts';
import { type CheckedOptions, checkOptions, type OverlayOptions } from './options.ts';
import { Overlay } from './overlay.ts';
import { makePlan, type OverlayPlan, type PreparedPlan } from './plan.ts';
import { planContext } from './plan-context.ts';
import { mountReport } from './report.ts';
import { mountUnderSignals } from './signals.ts';

/**
 * Mounts an overlay. Resolves when it is mounted, verified and attached; rejects with everything taken back.
 *
 * Rests on fsopen(2), fsconfig(2), fsmount(2) and move_mount(2), or mount(2) where those are missing, and on
 * https://docs.kernel.org/filesystems/overlayfs.html.
 *
 * @throws OverlayError with the reason in `code` and `findings`; `TypeError` `ERR_INVALID_ARG_VALUE` for a wrong type
 * or an unknown option.
 *
 * @example
 * ```ts
 * import { mountOverlay } from 'overlayfs';
 *
 * await using overlay = await mountOverlay({
 *   lower: ['/srv/app', '/srv/base'], // topmost first
 *   upper: '/srv/box/upper',
 *   work: '/srv/box/work',
 *   target: '/srv/box/merged',
 * });
 * console.log(overlay.path('etc/hosts'), overlay.report.rung);
 * // Unmounted here.
 * ```
 */
export async function mountOverlay(options: OverlayOptions): Promise<Overlay> {
  return mountChecked(checkOptions(options));
}

/** The same with options that have been checked. */
export async function mountChecked(checked: CheckedOptions): Promise<Overlay> {
  checked.signal?.throwIfAborted();
  const features = await kernelFeatures();
  const prepared = await prepare(checked, features);
  installExitGate();
  const { mounted, guard } = await mountUnderSignals(checked.unmountOnSignals ?? [], () =>
    carryOut(prepared.native, features),
  );
  const overlay = new Overlay(mounted, prepared, mountReport(prepared, mounted), guard);
  if (checked.signal?.aborted) {
    // Nobody has the handle: it must not stay, busy or not.
    await overlay.unmount({ timeout: 0 }).catch(() => overlay.unmount({ lazy: true }));
    throw checked.signal.reason;
  }
  return overlay;
}

/**
 * What {@link mountOverlay} would send to the kernel with these options. No layer is opened and none is changed.
 *
 * @throws OverlayError for options that contradict; `TypeError` for a wrong type or an unknown option.
 *
 * @example
 * ```ts
 * import { planOverlay } from 'overlayfs';
 *
 * const plan = await planOverlay({ lower: ['/srv/app', '/srv/base'], metacopy: true });
 * console.log(plan.options); // { redirect_dir: 'on', index: 'off', … }
 * ```
 */
export async function planOverlay(options: OverlayOptions): Promise<OverlayPlan> {
  const checked = checkOptions(options);
  return (await prepare(checked, await kernelFeatures())).plan;
}

async function prepare(options: CheckedOptions, features: KernelFeatures): Promise<PreparedPlan> {
  return makePlan(options, await planContext(options, features));
}

/** Carries a plan out, tells the listeners, and explains a failure. */
export async function carryOut(native: NativePlan, features: KernelFeatures): Promise<NativeMounted> {
  const { target, source } = native;
  const started = performance.now();
  const event = () => ({
    ...(target === undefined ? {} : { target: showPath(target) }),
    source: source.toString(),
    duration: performance.now() - started,
  });
  try {
    const mounted = await binding().mountOverlay(native);
    publishMount(() => ({ ...event(), rung: mounted.rung }));
    return mounted;
  } catch (failure) {
    const error = await explainMountFailure(native, features, failure);
    publishMount(() => ({ ...event(), error }));
    throw error;
  }
}
