// docs/how-it-works.md tells what the kernel does: all of it is done again, to the byte.
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { run } from '../cli/run.ts';
import { describePrivileged } from '../support/needs.ts';

const path = (name: string) => fileURLToPath(new URL(`../../${name}`, import.meta.url));

describePrivileged('docs/how-it-works.md', () => {
  it('is what the kernel does now', () => {
    const { status, stdout, stderr } = run(process.execPath, [path('test/docs/how-it-works.mjs'), '--print']);
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    expect(stdout).toBe(readFileSync(path('docs/how-it-works.md'), 'utf8'));
  });
});
