// applyChanges() of what it cannot apply: each says so, and leaves everything as it was.
import { execFileSync } from 'node:child_process';
import { chmodSync, mkdirSync, readdirSync, readFileSync, rmSync, unlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { type ApplyProgress, applyChanges, changes, mountOverlay } from '../../lib/index.ts';
import { apply, changed, collected, edit, setXattr, tree, write } from '../support/applied.ts';
import { waitingShell } from '../support/child.ts';
import { describePrivileged } from '../support/needs.ts';
import { expectRefusal } from '../support/refusal.ts';
import { afterThisTest, scratchOn } from '../support/scratch.ts';
import { snapshot } from '../support/snapshot.ts';
import { view } from '../support/view.ts';
import { writtenChanges } from '../support/written-changes.ts';

describePrivileged('bad input of applyChanges()', () => {
  const scratch = scratchOn();
  it('refuses a target that is missing, a file, or not for this user', async () => {
    const { stack, target } = await changed(scratch, tree, edit);
    const all = await collected(stack);
    await expectRefusal(scratch, 'ERR_OVERLAY_TARGET_NOT_FOUND', () => applyChanges(all, scratch.path('no')));
    await expectRefusal(scratch, 'ERR_OVERLAY_TARGET_NOT_DIRECTORY', () =>
      applyChanges(all, join(target, 'hello')),
    );
    chmodSync(target, 0o700);
    await expect(
      (async () => {
        process.seteuid?.(65534);
        return applyChanges(all, target).finally(() => process.seteuid?.(0));
      })(),
    ).rejects.toMatchObject({ code: expect.stringMatching(/^ERR_OVERLAY_/) });
  });

  it('refuses a target in a layer, around one, or one that is the upper', async () => {
    const { stack } = await changed(scratch, tree, edit);
    const all = await collected(stack);
    for (const target of [
      stack.upper,
      stack.work,
      join(stack.lower as string, 'd'),
      scratch.root,
    ] as string[]) {
      await expectRefusal(scratch, 'ERR_OVERLAY_TARGET_OVERLAPS', () => applyChanges(all, target));
    }
    const bound = scratch.directory('bound');
    execFileSync('mount', ['--bind', join(stack.lower as string, 'd'), bound]);
    afterThisTest(() => execFileSync('umount', [bound]));
    await expectRefusal(scratch, 'ERR_OVERLAY_TARGET_OVERLAPS', () => applyChanges(all, bound));
  });

  it('refuses a target that a live overlay uses, however it is mounted', async () => {
    const { stack, target } = await changed(scratch, tree, edit);
    const all = await collected(stack);
    const refused = () =>
      expectRefusal(scratch, 'ERR_OVERLAY_TARGET_IN_USE', () => applyChanges(all, target));
    const empty = scratch.directory('empty');
    {
      await using _ = await mountOverlay({ lower: [target, empty], target: scratch.directory('m') });
      await refused();
    }
    {
      await using _ = await mountOverlay({ lower: [target, empty] }); // detached
      await refused();
    }
    {
      await using _ = await mountOverlay({
        lower: empty,
        upper: target,
        work: scratch.directory('w'),
        target: scratch.path('m'),
      });
      await expect(applyChanges(all, target)).rejects.toMatchObject({ code: 'ERR_OVERLAY_TARGET_IN_USE' });
    }
    await using _ = await waitingShell(
      `mount -t overlay overlay -o lowerdir=${target}:${empty} ${scratch.path('m')}`,
      ['unshare', '-m', '--propagation', 'private'],
    );
    await refused();
  });

  it('lets one call at a time work on a target', async () => {
    const { stack, target } = await changed(scratch, tree, edit);
    const all = await collected(stack);
    await using _ = await waitingShell(`exec 9<${target}; flock -x 9`);
    await expectRefusal(scratch, 'ERR_OVERLAY_TARGET_IN_USE', () => applyChanges(all, target));
  });

  it('refuses what are no changes, changes of several calls, and options that it does not know', async () => {
    const { stack, target } = await changed(scratch, tree, edit);
    const all = await collected(stack);
    const wrong = { code: 'ERR_INVALID_ARG_VALUE' };
    await expect(applyChanges(null as never, target)).rejects.toMatchObject(wrong);
    await expect(applyChanges({} as never, target)).rejects.toMatchObject(wrong);
    await expect(applyChanges([{ path: 'x' }] as never, target)).rejects.toMatchObject(wrong);
    await expect(applyChanges([...all, ...(await collected(stack))], target)).rejects.toMatchObject(wrong);
    for (const options of [
      { include: 'x' },
      { onConflict: 'skip' },
      { onProgress: 1 },
      { signal: 1 },
      { no: 1 },
    ])
      await expect(applyChanges(all, target, options as never)).rejects.toMatchObject(wrong);
    writeFileSync(join(target, 'other'), 'mine');
    await expect(applyChanges(all, target, { onConflict: () => 'maybe' as never })).rejects.toMatchObject(
      wrong,
    );
    expect(readdirSync(target).sort()).toEqual(['d', 'hello', 'other']);
  });

  it('changes nothing when a source has vanished', async () => {
    const { stack, target } = await changed(scratch, tree, edit);
    const all = await collected(stack);
    rmSync(join(stack.upper as string, 'd/new/file'));
    const before = await snapshot(target);
    await expect(applyChanges(all, target)).rejects.toMatchObject({ code: 'ESTALE', path: 'd/new/file' });
    expect(await snapshot(target)).toEqual(before);
  });

  it('changes nothing when the disk is full', async () => {
    const { stack, target } = await changed(scratch, tree, (merged) => {
      edit(merged);
      writeFileSync(join(merged, 'zz-big'), Buffer.alloc(2 << 20, 1));
    });
    const small = scratch.directory('small');
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1m,mode=0755', 'overlayfs-test', small]);
    afterThisTest(() => execFileSync('umount', [small]));
    execFileSync('cp', ['-a', `${target}/.`, small]);
    await expectRefusal(scratch, 'ERR_OVERLAY_NO_SPACE', () => apply(stack, small));
  });

  it('leaves alone what has a name of ours and is not, and says so', async () => {
    const { stack, target } = await changed(scratch, tree, edit);
    for (const name of ['#overlayfs-apply', '#overlayfs-applied']) {
      for (const mode of [0o755, 0o700]) {
        write(target, `${name}/my/own`, 'mine');
        chmodSync(join(target, name), mode);
        for (const dryRun of [true, false]) {
          const refused = await expectRefusal(scratch, 'ERR_OVERLAY_RESERVED_NAME', () =>
            apply(stack, target, { dryRun, onConflict: () => 'skip' }),
          );
          expect(refused.path).toBe(name);
        }
        rmSync(join(target, name), { recursive: true });
      }
      writeFileSync(join(target, name), '');
      await expectRefusal(scratch, 'ERR_OVERLAY_RESERVED_NAME', () => apply(stack, target));
      unlinkSync(join(target, name));
    }
    mkdirSync(join(target, '#overlayfs-apply'), { mode: 0o700 }); // of a run that was killed at once
    await apply(stack, target);
    expect(readdirSync(target).sort()).toEqual(['d', 'hello']);
  });

  it('refuses changes of a name of ours, and applies the others', async () => {
    const { stack, target } = await changed(scratch, tree, (merged) => {
      edit(merged);
      write(merged, '#overlayfs-applied/x', 'theirs');
    });
    const error = await expectRefusal(scratch, 'ERR_OVERLAY_RESERVED_NAME', () => apply(stack, target));
    expect(error.path).toMatch(/^#overlayfs-applied/);
    await apply(stack, target, { include: ({ path }) => !path.startsWith('#overlayfs-') });
    expect(readdirSync(target).sort()).toEqual(['d', 'hello']);
  });

  it('takes no empty choice of paths for all of them', async () => {
    const { stack } = await changed(scratch, tree, edit);
    expect(() => changes(stack, { include: [] })).toThrow(/must hold a path/);
  });

  it('names a target that is read-only', async () => {
    const { stack, target } = await changed(scratch, tree, edit);
    const bound = scratch.directory('read-only');
    execFileSync('mount', ['--bind', target, bound]);
    afterThisTest(() => execFileSync('umount', [bound]));
    execFileSync('mount', ['-o', 'remount,bind,ro', bound]);
    await expect(apply(stack, bound)).rejects.toMatchObject({ code: 'EROFS', path: bound });
  });

  it('says why directories of a lower stay where they are on an overlay', async () => {
    const { stack, target } = await changed(scratch, tree, (merged) =>
      rmSync(join(merged, 'd'), { recursive: true }),
    );
    const box = scratch.directory('box');
    const outer = {
      lower: target,
      upper: scratch.directory('box-upper'),
      work: scratch.directory('box-work'),
      target: box,
    };
    {
      await using _ = await mountOverlay(outer);
      await expect(apply(stack, box)).rejects.toMatchObject({
        code: 'ERR_OVERLAY_TARGET_ON_OVERLAY',
        path: 'd',
      });
      expect(readdirSync(box).sort()).toEqual(['d', 'hello', 'other']);
      expect(readFileSync(join(box, 'd/f'), 'utf8')).toBe('old');
    }
    await using _ = await mountOverlay({ ...outer, redirectDir: 'on' });
    await apply(stack, box);
    expect(readdirSync(box).sort()).toEqual(['hello', 'other']);
  });

  it('makes no marks of attributes that the overlay shows under such names, and tells them', async () => {
    const { stack, target } = await changed(scratch, tree, (merged) => {
      write(merged, 'new/file', '');
      setXattr(join(merged, 'new'), 'trusted.overlay.opaque');
      setXattr(join(merged, 'd'), 'trusted.overlay.redirect');
      setXattr(join(merged, 'other'), 'trusted.overlay.nested');
    });
    const { dropped } = await apply(stack, target);
    expect(dropped.map(({ change, xattr }) => [change.path, xattr]).sort()).toEqual([
      ['d', 'trusted.overlay.redirect'],
      ['new', 'trusted.overlay.opaque'],
      ['other', 'trusted.overlay.nested'],
    ]);
    for (const { xattrs } of Object.values(await view(target))) expect(xattrs).toEqual({});
  });

  it('rejects with what onProgress throws, and takes back what it has done', async () => {
    const { stack, target } = await changed(scratch, tree, (merged) => {
      for (let i = 0; i < 4; i++) writeFileSync(join(merged, `big${i}`), Buffer.alloc(64 << 20, i));
    });
    const before = await snapshot(target);
    const thrown = new Error('from onProgress');
    const onProgress = ({ phase }: ApplyProgress) => {
      if (phase === 'copying') throw thrown;
    };
    await expect(apply(stack, target, { onProgress })).rejects.toBe(thrown);
    expect(await snapshot(target)).toEqual(before);
  });

  it('makes no directory of a name that another change would need as one', async () => {
    const { stack, target } = await changed(scratch, tree, edit);
    await using written = await writtenChanges(stack, [{ kind: 'modified', path: 'hello/x' }]);
    await expect(applyChanges(written.all, target)).rejects.toMatchObject({
      code: 'ERR_OVERLAY_APPLY_CONFLICT',
    });
  });
});
