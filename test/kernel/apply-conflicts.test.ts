// applyChanges() where the target is not as the before-view has it, or no longer: what it refuses, asks about and keeps.
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { ApplyConflict, ApplyOptions, Change } from '../../lib/index.ts';
import { apply, changed, edit, expectSameAsMounted, setXattr, tree, write } from '../support/applied.ts';
import { runChild } from '../support/child.ts';
import { describePrivileged } from '../support/needs.ts';
import { expectRefusal } from '../support/refusal.ts';
import { afterThisTest, scratchOn } from '../support/scratch.ts';
import { snapshot } from '../support/snapshot.ts';

describePrivileged('applyChanges() where the target is not as the before-view', () => {
  const scratch = scratchOn();
  const cases: Readonly<Record<string, readonly [(target: string) => void, string, string, boolean]>> = {
    missing: [(t) => unlinkSync(join(t, 'd/f')), 'missing', 'd/f', true],
    exists: [(t) => write(t, 'd/new', 'mine'), 'exists', 'd/new', true],
    type: [
      (t) => execFileSync('sh', ['-euc', 'rm "$0"; mkdir "$0"', join(t, 'other')]),
      'type',
      'other',
      true,
    ],
    'content of the same size': [(t) => writeFileSync(join(t, 'other'), 'mine!'), 'content', 'other', true],
    metadata: [(t) => chmodSync(join(t, 'd/f'), 0o400), 'metadata', 'd/f', true],
    'an attribute': [(t) => setXattr(join(t, 'other'), 'user.x'), 'metadata', 'other', true],
  };

  it.each(Object.entries(cases))(
    'refuses %s, and does what is decided',
    async (_, [spoil, reason, path, forcible]) => {
      const { stack, target } = await changed(scratch, tree, edit);
      spoil(target);
      const error = await expectRefusal(scratch, 'ERR_OVERLAY_APPLY_CONFLICT', () => apply(stack, target));
      expect(error.path).toBe(path);
      await expectRefusal(scratch, 'ERR_OVERLAY_APPLY_CONFLICT', () =>
        apply(stack, target, { onConflict: () => Promise.resolve('abort' as const) }),
      );
      const kept = existsSync(join(target, path)) ? await snapshot(join(target, path)) : {};
      const decide = (answer: 'skip' | 'apply', told: ApplyConflict[]): ApplyOptions => ({
        onConflict: (conflict) => {
          told.push(conflict);
          return answer;
        },
      });
      const told: ApplyConflict[] = [];
      const { skipped } = await apply(stack, target, decide('skip', told));
      expect(told.map((one) => [one.reason, one.path, one.forcible])).toEqual([[reason, path, forcible]]);
      expect(skipped.map((one) => one.path)).toContain(path);
      if (existsSync(join(target, path))) expect(await snapshot(join(target, path))).toEqual(kept);
      await apply(stack, target, decide('apply', []));
      await expectSameAsMounted(scratch, stack, target);
    },
  );

  it('reads files whose equal times tell too little', async () => {
    const { stack, target } = await changed(
      scratch,
      (lower) => {
        for (const name of ['d/f', 'gone/f']) {
          write(lower, name, 'old!!');
          utimesSync(join(lower, name), 1e9, 1e9);
        }
      },
      (merged) => {
        writeFileSync(join(merged, 'd/f'), 'newer');
        rmSync(join(merged, 'gone'), { recursive: true });
      },
    );
    for (const name of ['d/f', 'gone/f']) {
      writeFileSync(join(target, name), 'MINE!');
      utimesSync(join(target, name), 1e9, 1e9);
    }
    const error = await expectRefusal(scratch, 'ERR_OVERLAY_APPLY_CONFLICT', () => apply(stack, target));
    expect(error.findings.map(({ path }) => path)).toEqual(['d/f', 'gone/f']);
    expect(error.message).toMatch(/another content/);
  });

  it('compares the root as any directory', async () => {
    const { stack, target } = await changed(scratch, tree, (merged) => chmodSync(merged, 0o711));
    chmodSync(target, 0o750);
    const error = await expectRefusal(scratch, 'ERR_OVERLAY_APPLY_CONFLICT', () => apply(stack, target));
    expect(error.path).toBe('.');
    await apply(stack, target, { onConflict: () => 'skip' });
    expect(statSync(target).mode & 0o777).toBe(0o750);
    await apply(stack, target, { onConflict: () => 'apply' });
    expect(statSync(target).mode & 0o777).toBe(0o711);
  });

  describe('that come while the question about one is open', () => {
    const edits: Readonly<Record<string, readonly [(target: string) => void, string]>> = {
      'a file that would be replaced': [(t) => writeFileSync(join(t, 'd/f'), 'mine'), 'd/f'],
      'its mode': [(t) => chmodSync(join(t, 'd/f'), 0o600), 'd/f'],
      'an attribute of it': [(t) => setXattr(join(t, 'd/f'), 'user.x'), 'd/f'],
      'another file in its place': [
        (t) => {
          writeFileSync(join(t, 'new'), 'old');
          renameSync(join(t, 'new'), join(t, 'd/f'));
        },
        'd/f',
      ],
      'a file that would be removed': [(t) => writeFileSync(join(t, 'other'), 'mine'), 'other'],
      'a new file in a directory that would be removed': [
        (t) => write(t, 'gone/in/mine', ''),
        'gone/in/mine',
      ],
      'an edited one in there': [(t) => writeFileSync(join(t, 'gone/in/x'), 'mine'), 'gone/in/x'],
      'an empty directory in there': [(t) => mkdirSync(join(t, 'gone/mine')), 'gone/mine'],
      'what stands where something is added': [(t) => write(t, 'd/new', 'mine'), 'd/new'],
      'a file that would be renamed': [(t) => writeFileSync(join(t, 'from'), 'mine'), 'from'],
      'the mode of a directory that gets another': [(t) => chmodSync(join(t, 'mode'), 0o700), 'mode'],
      'an attribute of that directory': [(t) => setXattr(join(t, 'mode'), 'user.x'), 'mode'],
      'an attribute of a directory that moves into a new one': [
        (t) => setXattr(join(t, 'moves'), 'user.x'),
        'moves',
      ],
      'an attribute of a directory that would be removed': [
        (t) => setXattr(join(t, 'gone'), 'user.x'),
        'gone',
      ],
      'an attribute of what has been chosen to be another': [
        (t) => setXattr(join(t, 'asked too'), 'user.x'),
        'asked too',
      ],
      'a file that gets another name': [(t) => writeFileSync(join(t, 'linked'), 'mine'), 'linked'],
      'another file in the place of one that gets another name': [
        (t) => {
          rmSync(join(t, 'linked'));
          writeFileSync(join(t, 'linked'), 'mine');
        },
        'linked',
      ],
      'what has been chosen to be lost': [(t) => writeFileSync(join(t, 'asked'), 'mine, once more'), 'asked'],
    };
    it.each(Object.entries(edits))('keeps %s, and takes everything back', async (_, [act, path]) => {
      const { stack, target } = await changed(
        scratch,
        (lower) => {
          tree(lower);
          for (const name of ['asked', 'asked too/x', 'from', 'gone/in/x', 'linked', 'mode/x', 'moves/x'])
            write(lower, name, name);
          linkSync(join(lower, 'linked'), join(lower, 'linked too'));
        },
        (merged) => {
          edit(merged);
          writeFileSync(join(merged, 'asked'), 'new');
          renameSync(join(merged, 'from'), join(merged, 'to'));
          rmSync(join(merged, 'gone'), { recursive: true });
          for (const name of ['mode', 'moves', 'asked too']) chmodSync(join(merged, name), 0o711);
          mkdirSync(join(merged, 'new'));
          renameSync(join(merged, 'moves'), join(merged, 'new/moves'));
          linkSync(join(merged, 'linked'), join(merged, 'named'));
        },
        { index: true },
      );
      writeFileSync(join(target, 'asked'), 'mine');
      chmodSync(join(target, 'asked too'), 0o700);
      let edited: unknown;
      const attempt = apply(stack, target, {
        onConflict: async () => {
          if (edited === undefined) act(target);
          edited ??= await snapshot(target);
          return 'apply' as const;
        },
      });
      await expect(attempt).rejects.toMatchObject({
        code: 'ERR_OVERLAY_APPLY_CONFLICT',
        path,
        message: expect.stringContaining('since it was compared'),
      });
      expect(await snapshot(target)).toEqual(edited);
    });

    it('takes no step of its own for an edit: names of one inode that leave, move and are linked', async () => {
      const { stack, target } = await changed(
        scratch,
        (lower) => {
          write(lower, 'gone/one', 'linked');
          for (const name of ['two', 'three', 'four']) linkSync(join(lower, 'gone/one'), join(lower, name));
        },
        (merged) => {
          rmSync(join(merged, 'gone'), { recursive: true });
          unlinkSync(join(merged, 'two'));
          writeFileSync(join(merged, 'three'), 'new');
          renameSync(join(merged, 'four'), join(merged, 'five'));
        },
      );
      await apply(stack, target);
      expect(readFileSync(join(target, 'three'), 'utf8')).toBe('new');
      expect(readFileSync(join(target, 'five'), 'utf8')).toBe('linked');
      expect(readdirSync(target).sort()).toEqual(['five', 'hello', 'three']);
    });
  });

  it('finds what would be lost in a directory that goes', async () => {
    const { stack, target } = await changed(scratch, tree, (merged) =>
      rmSync(join(merged, 'd'), { recursive: true }),
    );
    write(target, 'd/sub/mine', 'mine');
    const error = await expectRefusal(scratch, 'ERR_OVERLAY_APPLY_CONFLICT', () => apply(stack, target));
    expect(error.path).toBe('d/sub/mine');
  });

  it('compares a directory with more directories in it than it may have descriptors', async () => {
    const { stack, target } = await changed(
      scratch,
      (lower) => {
        for (let i = 0; i < 300; i++) write(lower, `gone/${i}/file`, 'x');
      },
      (merged) => rmSync(join(merged, 'gone'), { recursive: true }),
    );
    const applied = await runChild<number>(
      `const stream = overlayfs.changes(${JSON.stringify(stack)});
       const { applied } = await overlayfs.applyChanges(stream, ${JSON.stringify(target)});
       report(applied.length);`,
      { through: ['prlimit', '--nofile=96:96'] },
    );
    expect(applied).toBe(1);
    expect(existsSync(join(target, 'gone'))).toBe(false);
  });

  it('follows no symbolic link out of the target', async () => {
    const { stack, target } = await changed(scratch, tree, edit);
    const outside = scratch.directory('outside');
    write(outside, 'f', 'old');
    rmSync(join(target, 'd'), { recursive: true });
    symlinkSync(outside, join(target, 'd'));
    const error = await expectRefusal(scratch, 'ERR_OVERLAY_APPLY_CONFLICT', () => apply(stack, target));
    expect(error.findings.map(({ detail }) => detail).join()).toMatch(/cannot be reached/);
    await expectRefusal(scratch, 'ERR_OVERLAY_APPLY_CONFLICT', () =>
      apply(stack, target, { onConflict: () => 'apply' }),
    );
    expect(readlinkSync(join(target, 'd'))).toBe(outside);
  });

  it('crosses, moves and removes nothing that is mounted in the target', async () => {
    const { stack, target } = await changed(scratch, tree, (merged) =>
      rmSync(join(merged, 'd'), { recursive: true }),
    );
    execFileSync('mount', ['-t', 'tmpfs', 'overlayfs-test', join(target, 'd/sub')]);
    afterThisTest(() => execFileSync('umount', [join(target, 'd/sub')]));
    const told: ApplyConflict[] = [];
    const { skipped } = await apply(stack, target, {
      onConflict: (conflict) => {
        told.push(conflict);
        return 'skip';
      },
    });
    expect(told.map(({ reason, forcible }) => [reason, forcible])).toEqual([['mount', false]]);
    expect(skipped.length).toBe(1);
  });

  it('leaves out what cannot be applied without what is left out', async () => {
    const { stack, target } = await changed(scratch, tree, (merged) => {
      renameSync(join(merged, 'd'), join(merged, 't'));
      mkdirSync(join(merged, 'd'));
      write(merged, 'd/in-the-new', 'x');
      write(merged, 't/in-the-old', 'x');
    });
    chmodSync(join(target, 'd'), 0o700);
    const before = await snapshot(target);
    const { applied, skipped } = await apply(stack, target, {
      include: ({ path }) => path !== '.',
      onConflict: () => 'skip',
    });
    expect(applied).toEqual([]);
    expect(skipped.map(({ path }) => path).sort()).toEqual(['d', 'd/in-the-new', 't', 't/in-the-old']);
    expect(await snapshot(target)).toEqual(before);
  });

  it('only tells what it would do, with dryRun', async () => {
    const { stack, target } = await changed(scratch, tree, (merged) => {
      edit(merged);
      write(merged, 'added', 'new');
      renameSync(join(merged, 'd'), join(merged, 't'));
      write(merged, 't/in-the-old', 'x');
    });
    chmodSync(join(target, 'd'), 0o700);
    const before = await snapshot(target);
    const run = async (dryRun: boolean) => {
      const told: string[] = [];
      const result = await apply(stack, target, {
        dryRun,
        onConflict: ({ path, reason }) => {
          told.push(`${path} ${reason}`);
          return 'skip';
        },
      });
      const paths = (all: readonly Change[]) => all.map(({ path }) => path);
      return { ...result, applied: paths(result.applied), skipped: paths(result.skipped), told };
    };
    const dry = await run(true);
    expect(await snapshot(target)).toEqual(before);
    expect(dry.skipped).toContain('t/in-the-old');
    expect(dry).toMatchObject({ bytes: 0n, dropped: [] });
    const { applied, skipped, told, bytes } = await run(false);
    expect({ applied, skipped, told }).toEqual({
      applied: dry.applied,
      skipped: dry.skipped,
      told: dry.told,
    });
    expect(bytes).toBeGreaterThan(0n);
  });
});
