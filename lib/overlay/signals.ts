/**
 * `unmountOnSignals`: unmount when a signal arrives, then let the signal take its course.
 * @module
 */

import { binding } from '../addon.ts';
import type { NativeHandle, NativeMounted } from '../native/binding.ts';
import { warnOfOutcome } from './exit.ts';

/** A mount that signals take away. */
interface Guarded {
  /** There already, or under way; undefined when it came to nothing. */
  readonly handle: Promise<NativeHandle | undefined>;
  /** Told once a signal has taken it away. */
  ended: () => void;
}

/** What stands between a mount and the signals that take it away. */
export interface SignalGuard {
  /** Sets who is told when a signal has taken it away. */
  whenEnded(ended: () => void): void;
  /** The mount is the caller's again. */
  release(): void;
}

const guarded = new Map<NodeJS.Signals, Set<Guarded>>();

/** Mounts, and unmounts again when one of these signals arrives, then or meanwhile. */
export async function mountUnderSignals(
  signals: readonly NodeJS.Signals[],
  mount: () => Promise<NativeMounted>,
): Promise<{ readonly mounted: NativeMounted; readonly guard: SignalGuard }> {
  let settle: (handle: NativeHandle | undefined) => void = () => {};
  const guard: Guarded = {
    handle: new Promise((resolve) => {
      settle = resolve;
    }),
    ended: () => {},
  };
  const release = () => {
    for (const signal of signals) {
      const guards = guarded.get(signal);
      guards?.delete(guard);
      if (guards?.size === 0) stopListeningSoon(signal, guards);
    }
  };
  // The listeners come first: a signal must not end the process between the mount and them.
  for (const signal of signals) (guarded.get(signal) ?? listen(signal)).add(guard);
  try {
    // Awaited here and nowhere else, or an error would lose its caller's line.
    const mounted = await mount();
    settle(mounted.handle);
    const whenEnded = (ended: () => void) => {
      guard.ended = ended;
    };
    return { mounted, guard: { whenEnded, release } };
  } catch (error) {
    settle(undefined);
    release();
    throw error;
  }
}

function listen(signal: NodeJS.Signals): Set<Guarded> {
  const guards = new Set<Guarded>();
  guarded.set(signal, guards);
  // First in line, to see the program's own listeners before those added with once() are gone.
  process.prependListener(signal, onSignal);
  return guards;
}

// A signal that the process has got already waits for the event loop, and would be lost without a listener: one whole
// turn lies between two immediates.
function stopListeningSoon(signal: NodeJS.Signals, guards: ReadonlySet<Guarded>): void {
  setImmediate(() =>
    setImmediate(() => {
      if (guards.size === 0 && guarded.get(signal) === guards) stopListening(signal);
    }),
  );
}

function stopListening(signal: NodeJS.Signals): void {
  guarded.delete(signal);
  process.off(signal, onSignal);
}

async function onSignal(signal: NodeJS.Signals): Promise<void> {
  const programListens = process.listenerCount(signal) > 1;
  const guards = guarded.get(signal) ?? new Set();
  // Newest first: an overlay may lie over an older one.
  for (let guard = newest(guards); guard !== undefined; guard = newest(guards)) {
    const handle = await guard.handle;
    const outcome = handle === undefined ? undefined : binding().unmountNow(handle);
    if (outcome !== undefined) warnOfOutcome(outcome, `when ${signal} arrived`);
    guards.delete(guard);
    guard.ended();
  }
  if (guarded.get(signal) === guards) stopListening(signal);
  // Where the program listens too, what the signal means is its decision.
  if (!programListens) process.kill(process.pid, signal);
}

const newest = (guards: ReadonlySet<Guarded>) => [...guards].at(-1);
