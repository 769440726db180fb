/** Suites with programs of other projects: left out loudly where one is missing, and failing with OVERLAYFS_TEST_STRICT=1. */
import { missingPackages } from '../../../native/build/tools.mjs';
import { describePrivileged, describeUnless } from '../needs.ts';

/** A privileged suite of tests that need what these Debian packages bring. */
export function describeWith(packages: readonly string[], name: string, tests: () => void): void {
  const missing = missingPackages(packages);
  if (missing.length === 0) describePrivileged(name, tests);
  else describeUnless(`needs ${missing.join(' and ')}`, name, {}, tests);
}
