/**
 * The addon whose system calls can be made to fail. Import this before anything loads the usual addon: it is one test
 * file's affair.
 */
import { existsSync } from 'node:fs';
import { constants } from 'node:os';
import { fileURLToPath } from 'node:url';
import { afterAll, vi } from 'vitest';
import { binding } from '../../lib/addon.ts';
import type { FaultBinding } from '../../lib/native/binding.ts';
import { afterThisTest } from './scratch.ts';

// The sanitized run names an addon that has the fault plan too.
process.env.OVERLAYFS_NATIVE ??= fileURLToPath(
  new URL('../../.build/faults/overlayfs.node', import.meta.url),
);
if (!existsSync(process.env.OVERLAYFS_NATIVE)) {
  throw new Error(`${process.env.OVERLAYFS_NATIVE} is missing: build it with \`npm run dev:faults\``);
}

const addon = binding() as FaultBinding;
if (typeof addon.planFault !== 'function') {
  throw new Error(`${process.env.OVERLAYFS_NATIVE} has no fault plan: build one with \`npm run dev:faults\``);
}

// What a module has found out with faults is not for the next file, where files share their modules.
afterAll(() => {
  vi.resetModules();
});

/** The call by which this kernel makes an overlay that has a target. */
export const creating = (await addon.kernelFeatures()).lowerdirAppend ? 'fsconfig:CMD_CREATE' : 'mount';

/** A call that will fail: by its name in native/core/sys.cc, after `skip` that go through, `times` times. */
export interface Fault {
  readonly call: string;
  readonly error: keyof typeof constants.errno;
  readonly skip?: number;
  readonly times?: number;
}

/** Plans the faults until the test ends. */
export function plan(...faults: readonly Fault[]): void {
  afterThisTest(clear);
  for (const { call, error, skip = 0, times = -1 } of faults) {
    addon.planFault(call, constants.errno[error], skip, times);
  }
}

/** Takes them back before the test ends; says how often each call was made since the last time, also those that failed. */
export function clear(): Record<string, number> {
  return addon.clearFaults();
}
