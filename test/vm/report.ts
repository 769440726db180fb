/** vitest's reporter for runs on other kernels: one line of JSON at the end, for test/vm/suite.mjs. */
import { release } from 'node:os';
import type { Reporter, TestModule } from 'vitest/node';

/** What one kernel made of the suite. */
export interface KernelReport {
  readonly release: string;
  readonly arch: string;
  readonly node: string;
  readonly tests: number;
  readonly passed: number;
  readonly failed: readonly string[];
  /** What this kernel has not, as a probe has shown: test by test. */
  readonly unavailable: readonly string[];
  /** What was left out for another reason. */
  readonly skipped: readonly string[];
  readonly seconds: number;
}

/** What the line begins with. */
export const mark = 'overlayfs-report: ';

export default class implements Reporter {
  readonly #start = performance.now();

  onTestRunEnd(modules: readonly TestModule[], errors: readonly { readonly message: string }[]): void {
    const outcomes = modules
      .flatMap((module) => [...module.children.allTests()])
      .map((test) => {
        const result = test.result();
        const note = result.state === 'skipped' ? result.note : undefined;
        return { name: test.fullName, state: result.state, note };
      });
    // A test that the tags leave out is skipped without a note.
    const wanted = outcomes.filter(({ state, note }) => state !== 'skipped' || note !== undefined);
    const names = (chosen: typeof wanted) =>
      chosen.map(({ name, note }) => (note ? `${name} (${note})` : name));
    const skipped = wanted.filter(({ state }) => state === 'skipped');
    const isUnavailable = ({ note = '' }: (typeof wanted)[number]) => note.startsWith('unavailable');
    const broken = modules.flatMap((module) =>
      module.errors().map((error) => `${module.moduleId}: ${error.message}`),
    );
    const report: KernelReport = {
      release: release(),
      arch: process.arch,
      node: process.versions.node,
      tests: wanted.length,
      passed: wanted.filter(({ state }) => state === 'passed').length,
      failed: [
        ...names(wanted.filter(({ state }) => state === 'failed' || state === 'pending')),
        ...broken,
        ...errors.map(({ message }) => message),
      ],
      unavailable: names(skipped.filter(isUnavailable)),
      skipped: names(skipped.filter((one) => !isUnavailable(one))),
      seconds: Math.round((performance.now() - this.#start) / 100) / 10,
    };
    console.log(`${mark}${JSON.stringify(report)}`);
  }
}
