// applyChanges() where system calls fail, one or all from then on, and where it is killed: everything is taken back or done, and
// nothing that was in the target is lost.
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  existsSync,
  linkSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { applyChanges, type LayerStack, mountOverlay } from '../../lib/index.ts';
import { collected, write } from '../support/applied.ts';
import { importTypeScript } from '../support/child.ts';
import { clear, type Fault, plan } from '../support/faults.ts'; // first: it chooses the addon
import { describePrivileged } from '../support/needs.ts';
import { type Scratch, scratchOn } from '../support/scratch.ts';
import { type View, view } from '../support/view.ts';

describePrivileged('when system calls fail, applyChanges()', () => {
  const scratch = scratchOn();

  describe('of which one fails, does all or nothing', () => {
    it.each([
      ...['openat', 'openat2', 'statx', 'fstatat', 'mkdirat', 'linkat', 'symlinkat', 'mknodat', 'renameat2'],
      ...['unlinkat', 'fchownat', 'fchmod', 'utimensat', 'flistxattr', 'getdents64', 'syncfs'],
      ...['flock', 'write'],
    ])('%s', async (call) => {
      const ground = await makeGround(scratch);
      let [failed, unharmed] = [0, 0];
      for (const skip of places(24)) {
        const outcome = await ground.attempt({ call, error: 'EIO', skip, times: 1 });
        if (outcome.error === undefined) {
          // What fails when all is done is told; what comes through otherwise was not needed, or never called.
          expect({ skip, view: outcome.shown }).toEqual({ skip, view: ground.after });
          if (outcome.left.length > 0) failed++;
          else if (failed > 0 && ++unharmed === 3) break;
        } else {
          failed++;
          expect(outcome.error.code, `${call} ${skip}`).not.toBe('ERR_OVERLAY_APPLY_HALF_DONE');
          expect({ skip, view: outcome.shown }).toEqual({ skip, view: ground.before });
        }
      }
      expect(failed).toBeGreaterThan(0);
    });
  });

  it.each(['renameat2', 'openat2', 'unlinkat', 'statx'])(
    'of which all fail from one %s(2) on, loses nothing, and says where the rest lies',
    async (call) => {
      const ground = await makeGround(scratch);
      for (const skip of places(14)) {
        const { error, shown } = await ground.attempt({ call, error: 'EIO', skip });
        if (error === undefined) {
          expect({ skip, view: shown }).toEqual({ skip, view: ground.after });
        } else if (error.code === 'ERR_OVERLAY_APPLY_HALF_DONE') {
          const contents = new Set(Object.values(await view(ground.target)).map(({ content }) => content));
          for (const { type, content } of Object.values(ground.before))
            if (type === 'file') expect(contents, `${call} ${skip}`).toContain(content);
          const ours = readdirSync(ground.target).filter((name) => name.startsWith('#'));
          const { left: told } = error as { left?: string };
          expect(ours.map((name) => join(ground.target, name))).toEqual(told === undefined ? [] : [told]);
          ground.renew();
        } else {
          expect({ skip, view: shown }).toEqual({ skip, view: ground.before });
        }
      }
    },
  );

  it('without RENAME_EXCHANGE does the same', async () => {
    const ground = await makeGround(scratch);
    const { error, shown } = await ground.attempt({ call: 'renameat2:RENAME_EXCHANGE', error: 'EINVAL' });
    expect({ error, view: shown }).toEqual({ error: undefined, view: ground.after });
  });

  it('without RENAME_EXCHANGE loses nothing between two renames: the next run has it back', async () => {
    const { stack, target } = await manyModified(scratch, 1);
    const all = await collected(stack);
    plan(
      { call: 'renameat2:RENAME_EXCHANGE', error: 'EINVAL' },
      // The old file has left its name; from then on nothing goes forward or back, as after a kill.
      { call: 'renameat2', error: 'EIO', skip: 1 },
    );
    await expect(applyChanges(all, target)).rejects.toMatchObject({ code: 'ERR_OVERLAY_APPLY_HALF_DONE' });
    clear();
    expect(existsSync(join(target, 'f0'))).toBe(false);
    expect(readdirSync(target)).toContain('#overlayfs-apply');
    await applyChanges(all, target, { dryRun: true });
    expect(readdirSync(target)).toEqual(['f0']);
    expect(readFileSync(join(target, 'f0'), 'utf8')).toBe('old 0');
    await applyChanges(all, target);
    expect(readFileSync(join(target, 'f0'), 'utf8')).toBe('new  0');
  });

  it('without RENAME_EXCHANGE lets the next run clear up when what was renamed has its place', async () => {
    const { lower, upper, work, target: merged } = scratch.layers();
    for (const name of ['from', 'to']) write(lower, name, name);
    const target = scratch.path('copy');
    execFileSync('cp', ['-a', lower, target]);
    const stack = { lower, upper, work };
    {
      await using _ = await mountOverlay({ ...stack, target: merged });
      renameSync(join(merged, 'from'), join(merged, 'to'));
    }
    const all = await collected(stack);
    plan(
      { call: 'renameat2:RENAME_EXCHANGE', error: 'EINVAL' },
      // Both have left their names, and one has its new one: then it is as after a kill.
      { call: 'renameat2', error: 'EIO', skip: 3 },
    );
    await expect(applyChanges(all, target)).rejects.toMatchObject({ code: 'ERR_OVERLAY_APPLY_HALF_DONE' });
    clear();
    expect(readdirSync(join(target, '#overlayfs-apply'))).toContain('record');
    await applyChanges(all, target, { dryRun: true, onConflict: () => 'skip' });
    expect(readdirSync(target).sort()).toEqual(['hello', 'to']);
    expect(readFileSync(join(target, 'to'), 'utf8')).toBe('from');
  });

  it('without RENAME_EXCHANGE loses nothing when it is killed', async () => {
    const many = 2000;
    const { stack, target } = await manyModified(scratch, many);
    await killedWhilePlacing(stack, target);
    await applyChanges(await collected(stack), target, { dryRun: true, onConflict: () => 'skip' });
    expect(readdirSync(target)).toHaveLength(many);
    const contents = Array.from({ length: many }, (_, i) => readFileSync(join(target, `f${i}`), 'utf8'));
    for (const [i, content] of contents.entries()) expect([`old ${i}`, `new  ${i}`]).toContain(content);
    expect(contents.some((content) => content.startsWith('old'))).toBe(true);
  });
});

// The first ones, and ever fewer.
function* places(most: number): Generator<number> {
  for (let count = 0, skip = 0; count < most; count++, skip += Math.ceil(count / 4)) yield skip;
}

interface Outcome {
  readonly error?: Error & { readonly code?: string };
  readonly shown: View;
  readonly left: readonly string[];
}

async function makeGround(scratch: Scratch) {
  const { lower, upper, work, target: merged } = scratch.layers();
  const [pristine, target] = [scratch.path('pristine'), scratch.path('target')];
  for (const name of ['a/a', 'b/b', 'gone/inner/x', 'gone/y', 'mod', 'meta', 'ren', 'rep/x', 'dm/f'])
    write(lower, name, name);
  execFileSync('cp', ['-a', lower, pristine]);
  const stack = { lower, upper, work, redirectDir: 'on' } as const;
  {
    await using _ = await mountOverlay({ ...stack, target: merged });
    const at = (name: string) => join(merged, name);
    for (const [from, to] of [
      ['a', 't'],
      ['b', 'a'],
      ['t', 'b'],
      ['ren', 'renamed'],
    ] as const)
      renameSync(at(from), at(to));
    for (const name of ['gone', 'rep']) rmSync(at(name), { recursive: true });
    writeFileSync(at('mod'), 'changed');
    writeFileSync(at('rep'), 'now a file');
    chmodSync(at('meta'), 0o600);
    chmodSync(at('dm'), 0o711);
    write(merged, 'new/deep/file', 'new');
    linkSync(at('new/deep/file'), at('link'));
    symlinkSync('x', at('sym'));
    execFileSync('mkfifo', [at('fifo')]);
  }
  const all = await collected(stack, { dirTimes: true });
  const renew = () => {
    rmSync(target, { recursive: true, force: true });
    execFileSync('cp', ['-a', pristine, target]);
  };
  renew();
  const before = await shown(target);
  await applyChanges(all, target);
  const after = await shown(target);
  renew();
  const attempt = async (fault: Fault): Promise<Outcome> => {
    plan(fault);
    const outcome = await applyChanges(all, target)
      .then(
        ({ left }) => ({ left }),
        (error: Error) => ({ error, left: [] }),
      )
      .finally(clear);
    const found = await shown(target);
    if (!('error' in outcome)) renew();
    return { ...outcome, shown: found };
  };
  return { target, before, after, attempt, renew };
}

// Without what could not be removed; whatever is made in the root changes its time.
async function shown(target: string): Promise<View> {
  const seen = Object.entries(await view(target)).filter(([path]) => !path.startsWith('#overlayfs-left-'));
  return Object.fromEntries(seen.map(([path, one]) => [path, path === '.' ? { ...one, mtime: '' } : one]));
}

async function manyModified(scratch: Scratch, many: number) {
  const [lower, upper, work] = ['l', 'u', 'w'].map((name) => scratch.directory(name)) as [
    string,
    string,
    string,
  ];
  for (let i = 0; i < many; i++) {
    writeFileSync(join(lower, `f${i}`), `old ${i}`);
    writeFileSync(join(upper, `f${i}`), `new  ${i}`);
  }
  const target = scratch.path('target');
  execFileSync('cp', ['-a', lower, target]);
  return { stack: { lower, upper, work }, target };
}

// The record is there as soon as the first file has been put aside.
async function killedWhilePlacing(stack: LayerStack, target: string): Promise<void> {
  const [library, addon] = ['../../lib/index.ts', '../../lib/addon.ts'].map(
    (path) => new URL(path, import.meta.url).href,
  );
  const program = `import { applyChanges, changes } from ${JSON.stringify(library)};
    import { binding } from ${JSON.stringify(addon)};
    binding().planFault('renameat2:RENAME_EXCHANGE', 22, 0, -1);
    await applyChanges(changes(${JSON.stringify(stack)}), ${JSON.stringify(target)});`;
  const child = spawn(process.execPath, [...importTypeScript, '--input-type=module', '--eval', program], {
    cwd: fileURLToPath(new URL('../..', import.meta.url)),
    stdio: ['ignore', 'inherit', 'inherit'],
  });
  const ended = once(child, 'exit');
  while (child.exitCode === null && !existsSync(join(target, '#overlayfs-apply/record'))) await wait(1);
  child.kill('SIGKILL');
  expect(await ended).toEqual([null, 'SIGKILL']);
}
