// changes() where system calls fail: an error that names a path, and never an answer that leaves something out.
import { linkSync, mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { changes, type LayerStack, mountOverlay } from '../../lib/index.ts';
import { clear, plan } from '../support/faults.ts'; // first: it chooses the addon
import { describePrivileged } from '../support/needs.ts';
import { type Scratch, scratchOn } from '../support/scratch.ts';

describePrivileged('when a system call fails, changes()', () => {
  const scratch = scratchOn();

  it.each([
    ['statx'],
    ['openat'],
    ['openat2'],
    ['getdents64'],
    ['lseek'],
    // As before Linux 6.13, and since.
    ['llistxattr', 'listxattrat'],
    ['lgetxattr', 'getxattrat'],
    ['listxattrat'],
    ['getxattrat'],
  ])('tells of every %s(2), or the same as without', async (call: string, missing?: string) => {
    const stack = await makeLayers(scratch);
    const whole = await told(stack);
    expect(whole).toEqual({
      changes: [
        'modified far/away/linked',
        'deleted gone',
        'added moved',
        'added moved/file',
        'modified one',
        'replaced other',
        'added other/new',
        'deleted was',
      ],
      errors: [],
    });
    let failed = 0;
    for (let skip = 0; skip < 120; skip++) {
      if (missing !== undefined) plan({ call: missing, error: 'ENOSYS' });
      plan({ call, error: 'EIO', skip, times: 1 });
      const some = await told(stack).catch((error: unknown) => error);
      clear();
      if (some instanceof Error || (some as Told).errors.length > 0) failed++;
      else expect({ skip, ...(some as Told) }).toEqual({ skip, ...whole });
    }
    // These the kernel may not have.
    if (!call.endsWith('xattrat')) expect(failed).toBeGreaterThan(5);
  });
});

interface Told {
  readonly changes: readonly string[];
  readonly errors: readonly Error[];
}

async function told(stack: LayerStack): Promise<Told> {
  await using stream = changes(stack, { onError: 'collect', threads: 1, renames: false });
  const found: string[] = [];
  for await (const { kind, path } of stream) found.push(`${kind} ${path}`);
  const { errors } = await stream.done;
  return { changes: found, errors };
}

// A directory that was moved, one that was replaced, and a hard link that was written to under one of its names: the
// others are in directories that the upper has not got.
async function makeLayers(scratch: Scratch): Promise<LayerStack> {
  const { upper, work, target } = scratch.layers();
  const lower = scratch.directory('old');
  for (const path of ['gone/file', 'was/file', 'other/file', 'far/away/from/it/all', 'one']) {
    scratch.file(`old/${path}`, path);
  }
  linkSync(`${lower}/one`, `${lower}/far/away/linked`);
  const stack = { lower, upper, work, index: true, redirectDir: 'on' } as const;
  await using _ = await mountOverlay({ ...stack, target });
  rmSync(`${target}/gone`, { recursive: true });
  renameSync(`${target}/was`, `${target}/moved`);
  rmSync(`${target}/other`, { recursive: true });
  mkdirSync(`${target}/other`);
  writeFileSync(`${target}/other/new`, '');
  writeFileSync(`${target}/one`, 'written');
  return stack;
}
