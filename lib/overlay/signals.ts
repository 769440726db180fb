/**
 * `unmountOnSignals`: unmount when a signal arrives, then let the signal take its course.
 * @module
 */
import type { NativeHandle } from '../native/binding.ts';
import { binding } from '../native/load.ts';

const waiting = new Map<NodeJS.Signals, Set<NativeHandle>>();

/** Unmounts this overlay when one of these signals arrives; returns what takes that back. */
export function unmountOnSignals(signals: readonly NodeJS.Signals[], handle: NativeHandle): () => void {
  for (const signal of signals) {
    const handles = waiting.get(signal) ?? listen(signal);
    handles.add(handle);
  }
  return () => {
    for (const signal of signals) {
      const handles = waiting.get(signal);
      handles?.delete(handle);
      if (handles?.size === 0) stopListening(signal);
    }
  };
}

function listen(signal: NodeJS.Signals): Set<NativeHandle> {
  const handles = new Set<NativeHandle>();
  waiting.set(signal, handles);
  process.on(signal, onSignal);
  return handles;
}

function stopListening(signal: NodeJS.Signals): void {
  waiting.delete(signal);
  process.off(signal, onSignal);
}

function onSignal(signal: NodeJS.Signals): void {
  for (const handle of waiting.get(signal) ?? []) binding().unmountNow(handle);
  stopListening(signal);
  // Where the program listens too, what the signal means is its decision.
  if (process.listenerCount(signal) === 0) process.kill(process.pid, signal);
}
