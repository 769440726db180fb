// npm run verify: all that must hold, from a fresh clone, quick failures first. `-- --install` installs what Debian has.
// Only Node's own modules are imported, since this runs before `npm ci`. The last line always counts the tests.
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { attempt, root, run } from '../native/build/run.mjs';
import { everyPackage, requirePackages } from '../native/build/tools.mjs';

const report = `${root}.build/test-report.json`;
let count = { passed: 0, failed: 0, skipped: 0 };
process.once('exit', (code) => {
  // A step that failed before the tests, or a suite that never got to its tests, is a failure too.
  if (code !== 0 && count.failed === 0) count.failed = 1;
  console.log(`${count.passed} passed, ${count.failed} failed, ${count.skipped} skipped`);
});

// vitest colours its output for a pipe too.
if (!process.stdout.isTTY) process.env.NO_COLOR ??= '1';

const script = (name) => run('npm', ['run', '--silent', name]);

step('Debian packages', () => requirePackages(everyPackage, { install: process.argv.includes('--install') }));
if (!existsSync(`${root}node_modules`)) {
  step('npm ci', () => run('npm', ['ci', '--ignore-scripts', '--no-audit', '--no-fund']));
}
step('TypeScript: lint and floors', () => script('lint:ts'));
step('TypeScript: types', () => script('typecheck'));
step('TypeScript: build; package: publint and attw', () => script('lint:package'));
step('C++: release build', () => script('build:native'));
step('C++: clang-format and clang-tidy', () => script('lint:cpp'));
step('C++: the addon that can make calls fail', () => script('dev:faults'));
step('C++: prebuilt binaries for x64 and arm64', () => script('prebuild'));
step('npm pack', () => run('npm', ['pack', '--silent', '--pack-destination', '.build']));
step('Node.js 22, 24 and 26: smoke test', () => run(process.execPath, ['test/nodes.mjs', '--smoke']));
step('Linux 6.1, 6.12 and arm64: smoke test', () => run(process.execPath, ['test/vm/smoke.mjs']));
step('Tests', test);

/** Prints a heading, does the work, prints the seconds that it took. */
function step(name, work) {
  console.log(`\n== ${name}`);
  const start = performance.now();
  work();
  console.log(`== ${name}: ${((performance.now() - start) / 1000).toFixed(1)} s`);
}

function test() {
  rmSync(report, { force: true });
  const reporters = ['--reporter=./test/support/json-report.ts', '--reporter=default'];
  const status = attempt(process.execPath, ['node_modules/vitest/vitest.mjs', 'run', ...reporters]);
  if (existsSync(report)) {
    const { numPassedTests, numFailedTests, numPendingTests, numTodoTests } = JSON.parse(
      readFileSync(report, 'utf8'),
    );
    count = { passed: numPassedTests, failed: numFailedTests, skipped: numPendingTests + numTodoTests };
  }
  process.exitCode = status !== 0 || count.failed > 0 || count.passed === 0 ? 1 : 0;
}
