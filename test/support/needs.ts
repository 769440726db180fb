/**
 * What the machine must offer for a test, and what happens where it does not: nothing is left out in silence, and with
 * OVERLAYFS_TEST_STRICT=1 only what a probe proves this kernel has not.
 */
import { describe, it, type TestContext, type TestOptions } from 'vitest';
import { support } from '../../lib/index.ts';
import { privileged } from './privileged.ts';

const strict = process.env.OVERLAYFS_TEST_STRICT === '1';

/** A suite of tests that mount. As an ordinary user it is skipped, named and with the reason; strictly, it fails. */
export function describePrivileged(name: string, tests: () => void): void;
export function describePrivileged(name: string, options: TestOptions, tests: () => void): void;
export function describePrivileged(name: string, ...rest: [() => void] | [TestOptions, () => void]): void {
  const [options, tests] = rest.length === 1 ? [{}, rest[0]] : rest;
  describeUnless(privileged ? undefined : 'needs root with CAP_SYS_ADMIN', name, options, tests);
}

/** A suite that is skipped for this reason, if there is one; strictly, it fails. */
export function describeUnless(
  reason: string | undefined,
  name: string,
  options: TestOptions,
  tests: () => void,
): void {
  if (reason === undefined) {
    describe(name, options, tests);
    return;
  }
  if (strict) {
    describe(name, () => {
      it('has what it needs', () => {
        throw new Error(`${name}: ${reason}`);
      });
    });
    return;
  }
  console.warn(`skipped: ${name} (${reason})`);
  describe.skip(`${name} (skipped: ${reason})`, tests);
}

/** Ends a test that this kernel cannot run, as the probe `present` has shown; printed by name. */
export function needsKernel(context: TestContext, present: boolean, what: string): void {
  if (present) return;
  console.warn(`unavailable: ${context.task.name} (this kernel has not ${what})`);
  context.skip(`unavailable: this kernel has not ${what}`);
}

/** Ends a test that this kernel cannot run, as it does not take this value of an overlay option; `''` is a flag's. */
export async function needsOption(context: TestContext, key: string, value: string): Promise<void> {
  const { options } = await support();
  needsKernel(context, options[key]?.[value]?.ok === true, value === '' ? key : `${key}=${value}`);
}
