/**
 * What becomes of the mounts when the process ends, as far as JavaScript has a say; native/binding/exit_gate.h is the
 * rest. Workers need nothing here: the native side hears when their environment ends.
 * @module
 */
import { isMainThread } from 'node:worker_threads';
import { binding } from '../addon.ts';
import { systemError } from '../errors.ts';
import type { NativeExitOutcome } from '../native/binding.ts';
import { showPath } from '../paths.ts';

let installed = false;

/** Makes the end of the process unmount what is not `keepOnExit`. Done once, at the first mount. */
export function installExitGate(): void {
  if (installed || !isMainThread) return;
  installed = true;
  process.once('exit', closeGate);
}

function closeGate(): void {
  for (const outcome of binding().closeGate()) warnOfOutcome(outcome, 'when the process ended');
}

/** Tells of a mount that did not simply go. */
export function warnOfOutcome({ target, errno }: NativeExitOutcome, when: string): void {
  warn(
    errno === 0
      ? `the overlay at ${showPath(target)} was busy ${when}, and has been detached lazily`
      : `the overlay at ${showPath(target)} could not be unmounted ${when}: ${systemError(errno).code}`,
  );
}

// process.emitWarning() speaks on the next tick, and after the exit event there is none.
function warn(message: string): void {
  const warning = new Error(message);
  warning.name = 'OverlayWarning';
  process.emit('warning', warning);
}
