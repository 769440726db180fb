// applyChanges on real layers: what it carries over, what it refuses, and that it then leaves everything as it was.
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  existsSync,
  linkSync,
  lstatSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import {
  type ApplyConflict,
  type ApplyOptions,
  type ApplyProgress,
  applyChanges,
  type Change,
  type ChangeOptions,
  changes,
  createWhiteout,
  type LayerStack,
  mountOverlay,
} from '../../lib/index.ts';
import {
  apply,
  changed,
  collected,
  edit,
  expectSameAsMounted,
  setXattr,
  tree,
  write,
} from '../support/applied.ts';
import { importTypeScript } from '../support/child.ts';
import { describePrivileged } from '../support/needs.ts';
import { expectRefusal } from '../support/refusal.ts';
import { afterThisTest, describeOn, type Scratch, scratchOn } from '../support/scratch.ts';
import { snapshot } from '../support/snapshot.ts';
import { mapTree, type View, view } from '../support/view.ts';

// The same size and time, so that only reading it tells.
const rewrite = (path: string) => {
  const { atime, mtime } = statSync(path);
  writeFileSync(path, 'new one');
  utimesSync(path, atime, mtime);
};

describeOn(['tmpfs', 'ext4', 'xfs', 'btrfs'], 'applyChanges', (scratch) => {
  it('makes what moved in circles, and into what came in its place, look as it does', async () => {
    const { stack, target } = await changed(
      scratch,
      (lower) => {
        for (const name of ['a', 'b', 'c', 'x', 'y', 'gone/inner']) write(lower, `${name}/${name[0]}`, name);
        for (const name of ['one', 'two', 'three']) write(lower, name, name);
      },
      (merged) => {
        const move = (from: string, to: string) => renameSync(join(merged, from), join(merged, to));
        for (const [from, to] of [
          ['a', 't'],
          ['b', 'a'],
          ['c', 'b'],
          ['t', 'c'],
          // x is what y was, with what x was in it.
          ['y', 't'],
          ['x', 't/z'],
          ['t', 'x'],
          ['one', 't'],
          ['two', 'one'],
          ['three', 'two'],
          ['t', 'three'],
          ['gone/inner', 'kept'],
        ] as const)
          move(from, to);
        rmSync(join(merged, 'gone'), { recursive: true });
        writeFileSync(join(merged, 'a/b'), 'changed in what moved');
      },
    );
    const { skipped } = await apply(stack, target);
    expect(skipped).toEqual([]);
    await expectSameAsMounted(scratch, stack, target);
    expect(readFileSync(join(target, 'x/z/x'), 'utf8')).toBe('x');
  });

  it('carries over every type, name and attribute, and keeps hard links', async () => {
    const odd = Buffer.from('not utf-8 \xff\n', 'latin1');
    const { stack, target } = await changed(
      scratch,
      (lower) => {
        write(lower, 'was-a-file', 'f');
        write(lower, 'was-a-directory/with', 'content');
      },
      (merged) => {
        execFileSync('sh', [
          '-euc',
          `cd "$0"; mkfifo fifo; mknod null c 1 3; mknod block b 7 200; ln -s /etc/passwd link
           python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind("socket")'
           echo linked > one; mkdir d; ln one d/two; ln one three; chmod 4755 one; chown 5:6 fifo link
           rm was-a-file; mkdir was-a-file; rm -r was-a-directory; echo now > was-a-directory
           truncate -s 1M sparse; chmod 2750 d`,
          merged,
        ]);
        writeFileSync(Buffer.concat([Buffer.from(`${merged}/`), odd]), 'odd');
        setXattr(join(merged, 'was-a-directory'), 'user.note');
        setXattr(join(merged, 'd'), 'trusted.note');
      },
    );
    const { methods, bytes } = await apply(stack, target);
    expect(Object.values(methods).reduce((sum, one) => sum + one, 0)).toBe(4);
    expect(bytes).toBeGreaterThan(0n);
    await expectSameAsMounted(scratch, stack, target);
    expect(statSync(join(target, 'one')).nlink).toBe(3);
    expect(statSync(join(target, 'sparse')).blocks).toBe(0);
  });

  it('keeps the times of a directory that comes in the place of something else', async () => {
    const { stack, target } = await changed(
      scratch,
      (lower) => {
        write(lower, 'a/directory/file', 'inside');
        utimesSync(join(lower, 'a/directory'), 1, 2);
        write(lower, 'a/file', 'goes');
      },
      // In one directory: xfs takes the move to another for a change of what is moved.
      (merged) => {
        unlinkSync(join(merged, 'a/file'));
        renameSync(join(merged, 'a/directory'), join(merged, 'a/file'));
      },
    );
    await apply(stack, target);
    expect(lstatSync(join(target, 'a/file')).mtimeMs).toBe(2000);
    await expectSameAsMounted(scratch, stack, target);
  });

  it('takes no new link of its own for an edit of a name that leaves', async () => {
    const { stack, target } = await changed(
      scratch,
      (lower) => {
        write(lower, 'moves', 'linked');
        for (const name of ['stays', 'leaves']) linkSync(join(lower, 'moves'), join(lower, name));
      },
      (merged) => {
        // One of them is told as renamed, the other as added.
        for (const name of ['come', 'comes too']) linkSync(join(merged, 'moves'), join(merged, name));
        for (const name of ['moves', 'leaves']) unlinkSync(join(merged, name));
      },
      { index: true },
    );
    await apply(stack, target);
    await expectSameAsMounted(scratch, stack, target);
  });

  it('carries over what differs in what was renamed, also where it has not been compared', async () => {
    const { stack, target } = await changed(
      scratch,
      (lower) => {
        write(lower, 'a/file', 'first');
        write(lower, 'file', 'second');
      },
      (merged) => {
        chmodSync(join(merged, 'a'), 0o700);
        setXattr(join(merged, 'a'), 'user.x');
        renameSync(join(merged, 'a'), join(merged, 'b'));
        setXattr(join(merged, 'file'), 'user.x');
        renameSync(join(merged, 'file'), join(merged, 'renamed'));
      },
    );
    await using stream = changes(stack, { compare: 'none' });
    await applyChanges(stream, target);
    const plain = (tree: View) => mapTree(tree, ({ mtime: _, ...rest }, path) => ({ ...rest, path }));
    await using overlay = await mountOverlay({ ...stack, target: scratch.directory('again') });
    expect(plain(await view(target))).toEqual(plain(await view(overlay.target as string)));
  });

  it('takes the lower itself, when it is not mounted any more', async () => {
    const { stack } = await changed(
      scratch,
      (lower) => write(lower, 'd/f', 'old'),
      (merged) => {
        renameSync(join(merged, 'd'), join(merged, 'moved'));
        writeFileSync(join(merged, 'moved/f'), 'new');
        rmSync(join(merged, 'hello'));
      },
    );
    const lower = stack.lower as string;
    await apply(stack, lower);
    expect(readdirSync(lower)).toEqual(['moved']);
    expect(readFileSync(join(lower, 'moved/f'), 'utf8')).toBe('new');
  });

  it('takes the lower itself, whose directories have moved when they get their attributes', async () => {
    const { stack, target } = await changed(
      scratch,
      (lower) => {
        for (const name of ['mode/sub', 'named', 'one', 'other']) write(lower, `${name}/f`, name);
        chmodSync(join(lower, 'one'), 0o700);
      },
      (merged) => {
        chmodSync(join(merged, 'mode/sub'), 0o711);
        renameSync(join(merged, 'mode'), join(merged, 'mode too'));
        write(merged, 'named/new', 'new');
        renameSync(join(merged, 'named'), join(merged, 'renamed'));
        setXattr(join(merged, 'other'), 'user.x');
        renameSync(join(merged, 'one'), join(merged, 'aside'));
        renameSync(join(merged, 'other'), join(merged, 'one'));
        renameSync(join(merged, 'aside'), join(merged, 'other'));
      },
    );
    await apply(stack, target);
    await apply(stack, stack.lower as string);
    expect(await view(stack.lower as string)).toEqual(await view(target));
    expect(readdirSync(target).sort()).toEqual(['hello', 'mode too', 'one', 'other', 'renamed']);
  });
});

describePrivileged('applyChanges on one file system', () => {
  const scratch = scratchOn();
  it('writes nothing in place: hard links outside of the changes stay as they are', async () => {
    const { stack, target } = await changed(scratch, tree, (merged) => {
      writeFileSync(join(merged, 'd/f'), 'new');
      chmodSync(join(merged, 'other'), 0o600);
    });
    linkSync(join(target, 'd/f'), scratch.path('link-of-f'));
    linkSync(join(target, 'other'), scratch.path('link-of-other'));
    await apply(stack, target);
    expect(readFileSync(join(target, 'd/f'), 'utf8')).toBe('new');
    expect(readFileSync(scratch.path('link-of-f'), 'utf8')).toBe('old');
    expect(statSync(join(target, 'other')).mode & 0o777).toBe(0o600);
    expect(statSync(scratch.path('link-of-other')).mode & 0o777).toBe(0o644);
  });

  it('leaves the time of a directory in which no name has changed', async () => {
    const { stack, target } = await changed(scratch, tree, (merged) =>
      writeFileSync(join(merged, 'd/f'), 'new'),
    );
    const before = [target, join(target, 'd')].map((path) => statSync(path).mtimeMs);
    await using stream = changes(stack);
    await applyChanges(stream, target);
    expect([target, join(target, 'd')].map((path) => statSync(path).mtimeMs)).toEqual(before);
  });

  it('applies a choice, and makes the directories that it needs as the overlay has them', async () => {
    const { stack, target } = await changed(scratch, tree, (merged) => {
      edit(merged);
      chmodSync(join(merged, 'd/new'), 0o2711);
      utimesSync(join(merged, 'd/new'), 5, 5);
    });
    const { applied } = await apply(stack, target, { include: ({ path }) => path === 'd/new/file' });
    expect(applied.map(({ path }) => path)).toEqual(['d/new/file']);
    const made = statSync(join(target, 'd/new'));
    expect([made.mode & 0o7777, made.mtimeMs]).toEqual([0o2711, 5000]);
    expect(readFileSync(join(target, 'd/f'), 'utf8')).toBe('old');
    expect(existsSync(join(target, 'other'))).toBe(true);
  });

  it('does not apply what is in a renamed directory without it', async () => {
    const { stack, target } = await changed(scratch, tree, (merged) => {
      renameSync(join(merged, 'd'), join(merged, 'moved'));
      writeFileSync(join(merged, 'moved/f'), 'new');
    });
    const conflicts: ApplyConflict[] = [];
    const options: ApplyOptions = {
      include: ({ kind }) => kind === 'modified',
      onConflict: (conflict) => {
        conflicts.push(conflict);
        return 'skip';
      },
    };
    const { applied, skipped } = await apply(stack, target, options);
    expect(conflicts.map(({ reason, path, forcible }) => [reason, path, forcible])).toEqual([
      ['parent', 'moved/f', false],
    ]);
    expect([applied.length, skipped.length]).toEqual([0, 1]);
    expect(readFileSync(join(target, 'd/f'), 'utf8')).toBe('old');
  });

  it('takes a stream, its entries, in any order and from any iterable', async () => {
    const { stack, target } = await changed(scratch, tree, edit);
    await using stream = changes(stack);
    const all: Change[] = [];
    for await (const change of stream) all.unshift(change);
    async function* some() {
      yield* all;
    }
    await applyChanges(some(), target);
    await expectSameAsMounted(scratch, stack, target).catch(() => {});
    expect(readFileSync(join(target, 'd/new/file'), 'utf8')).toBe('added');
    expect(await applyChanges([], target)).toMatchObject({ applied: [], skipped: [], bytes: 0n });
  });

  it('applies what was told of an overlay to its own lower once that is unmounted, whatever is mounted then', async () => {
    const made = (name: string) => ({
      lower: scratch.directory('base'),
      upper: scratch.directory(name, 'upper'),
      work: scratch.directory(name, 'work'),
      target: scratch.directory(name, 'merged'),
    });
    write(scratch.path('base'), 'file', 'old');
    const overlay = await mountOverlay(made('one'));
    writeFileSync(overlay.path('file'), 'of the one');
    await using stream = overlay.changes();
    const all: Change[] = [];
    for await (const change of stream) all.push(change);
    const numbers = JSON.stringify(overlay.layers());
    await overlay.unmount();
    {
      // Its layers have the numbers that the first one's had.
      await using other = await mountOverlay({
        ...made('other'),
        lower: scratch.directory('other', 'lower'),
      });
      writeFileSync(other.path('file'), 'of the other');
      expect(JSON.stringify(other.layers())).toBe(numbers);
      await applyChanges(all, scratch.path('base'));
    }
    expect(readFileSync(scratch.path('base', 'file'), 'utf8')).toBe('of the one');
  });

  it('refuses the changes of a stream that has been closed', async () => {
    const { stack, target } = await changed(scratch, tree, edit);
    const stream = changes(stack);
    const all: Change[] = [];
    for await (const change of stream) all.push(change);
    await stream.close();
    await expectRefusal(scratch, 'ERR_OVERLAY_STREAM_CLOSED', () => applyChanges(all, target));
  });

  it("tells what it cannot remove, which is in nobody's way", async () => {
    const { stack, target } = await changed(
      scratch,
      (lower) => {
        tree(lower);
        write(lower, 'gone/f', 'x');
      },
      (merged) => {
        edit(merged);
        rmSync(join(merged, 'gone'), { recursive: true });
      },
    );
    execFileSync('chattr', ['+i', join(target, 'gone/f')]);
    afterThisTest(() => execFileSync('chattr', ['-R', '-i', target]));
    const { left, applied } = await apply(stack, target);
    expect(left).toEqual([join(target, '#overlayfs-left-0')]);
    expect(applied.map(({ path }) => path)).toContain('gone');
    expect(readdirSync(target).sort()).toEqual(['#overlayfs-left-0', 'd', 'hello']);
    // What a run that was killed over its clearing up has left.
    renameSync(join(target, '#overlayfs-left-0'), join(target, '#overlayfs-applied'));
    const again = await apply(stack, target, { dryRun: true, onConflict: () => 'skip' });
    expect(again.left).toEqual(left);
    expect((await apply(stack, target, { onConflict: () => 'skip' })).left).toEqual([]);
  });

  it('tells how far it has got', async () => {
    const { stack, target } = await changed(scratch, tree, edit);
    const told: ApplyProgress[] = [];
    await apply(stack, target, { onProgress: (done) => told.push(done) });
    expect(told.at(-1)).toMatchObject({ phase: 'placing', entries: told.at(-1)?.total });
  });

  it('keeps what an index keeps together: names that move, come or stay without a change', async () => {
    const { lower, upper, work, target: merged } = scratch.layers();
    write(lower, 'a/one', 'content');
    for (const name of ['two', 'three']) linkSync(join(lower, 'a/one'), join(lower, name));
    const target = scratch.path('copy');
    execFileSync('cp', ['-a', lower, target]);
    const stack = { lower, upper, work, redirectDir: 'on', index: true } as const;
    {
      await using _ = await mountOverlay({ ...stack, target: merged });
      renameSync(join(merged, 'a/one'), join(merged, 'moved'));
      linkSync(join(merged, 'two'), join(merged, 'new'));
    }
    await apply(stack, target);
    const inode = (name: string) => lstatSync(join(target, name)).ino;
    expect(new Set(['moved', 'two', 'three', 'new'].map(inode)).size).toBe(1);
    expect(existsSync(join(target, 'a/one'))).toBe(false);
  });

  it.each<[string, ChangeOptions, (path: string) => boolean, (merged: string) => void]>([
    [
      'a name whose content is told',
      { compare: 'content' },
      (path) => path === 'one',
      (merged) => rewrite(join(merged, 'one')),
    ],
    [
      'a name that is linked over another file',
      {},
      () => true,
      (merged) => {
        rewrite(join(merged, 'one'));
        rmSync(join(merged, 'file'));
        linkSync(join(merged, 'one'), join(merged, 'file'));
      },
    ],
    [
      'a new name of what is told as renamed alone',
      {},
      () => true,
      (merged) => {
        rewrite(join(merged, 'one'));
        renameSync(join(merged, 'one'), join(merged, 'renamed'));
        linkSync(join(merged, 'renamed'), join(merged, 'added'));
      },
    ],
    [
      'a new name alone',
      { compare: 'content' },
      (path) => path === 'added',
      (merged) => {
        rewrite(join(merged, 'one'));
        linkSync(join(merged, 'one'), join(merged, 'added'));
      },
    ],
  ])('links %s to nothing that looks the same and holds something else', async (_, options, include, act) => {
    const { lower, upper, work, target: merged } = scratch.layers();
    write(lower, 'one', 'old one');
    write(lower, 'file', 'another one');
    linkSync(join(lower, 'one'), join(lower, 'two'));
    const past = new Date('2001-02-03T04:05:06.789Z');
    for (const name of ['one', 'file']) utimesSync(join(lower, name), past, past);
    const target = scratch.path('copy');
    execFileSync('cp', ['-a', lower, target]);
    const stack = { lower, upper, work, redirectDir: 'on', index: true } as const;
    {
      await using _ = await mountOverlay({ ...stack, target: merged });
      act(merged);
    }
    await using stream = changes(stack, options);
    const { applied } = await applyChanges(stream, target, { include: ({ path }) => include(path) });
    const told = applied.filter(({ kind }) => kind === 'added' || kind === 'modified');
    expect(told.length).toBeGreaterThan(0);
    for (const { path } of told) expect(readFileSync(join(target, path), 'utf8')).toBe('new one');
  });

  it('links a name that was added to what was renamed, and never to what the target had in its place', async () => {
    const { lower, upper, work, target: merged } = scratch.layers();
    write(lower, 'one', 'content');
    const stack = { lower, upper, work, redirectDir: 'on', index: true } as const;
    {
      await using _ = await mountOverlay({ ...stack, target: merged });
      renameSync(join(merged, 'one'), join(merged, 'a-moved'));
      for (const name of ['b-added', 'c-added']) linkSync(join(merged, 'a-moved'), join(merged, name));
    }
    const targetWith = (name: string, prepare: (target: string) => void): string => {
      const target = scratch.path(name);
      execFileSync('cp', ['-a', lower, target]);
      prepare(target);
      return target;
    };
    const inodesOf = (target: string, ...names: string[]) =>
      new Set(names.map((name) => lstatSync(join(target, name)).ino));
    const shown = (target: string) =>
      Object.fromEntries(
        readdirSync(target).map((name) => [name, readFileSync(join(target, name), 'utf8').slice(0, 7)]),
      );
    const mine = (name: string) =>
      targetWith(name, (target) => {
        writeFileSync(join(target, 'one'), 'mine');
        linkSync(join(target, 'one'), scratch.path(`${name}-link`));
      });

    const left = mine('skipped');
    const { skipped } = await apply(stack, left, { onConflict: () => 'skip' });
    expect(skipped.map(({ path }) => path)).toEqual(['a-moved']);
    expect(shown(left)).toMatchObject({ one: 'mine', 'b-added': 'content', 'c-added': 'content' });
    expect(inodesOf(left, 'b-added', 'c-added').size).toBe(1);

    const made = mine('forced');
    await apply(stack, made, { onConflict: () => 'apply' });
    expect(shown(made)).toMatchObject({ 'a-moved': 'content', 'b-added': 'content', 'c-added': 'content' });
    expect(inodesOf(made, 'a-moved', 'b-added', 'c-added').size).toBe(1);
    for (const name of ['skipped', 'forced'])
      expect(readFileSync(scratch.path(`${name}-link`), 'utf8')).toBe('mine');

    const occupied = targetWith('occupied', (target) => write(target, 'b-added', 'mine'));
    await apply(stack, occupied, { onConflict: () => 'apply' });
    expect(shown(occupied)).toMatchObject({ 'a-moved': 'content', 'b-added': 'content' });
    expect(inodesOf(occupied, 'a-moved', 'b-added', 'c-added').size).toBe(1);
  });

  it('finds no conflict with what an earlier call has applied of the same inode', async () => {
    const { stack, target } = await changed(
      scratch,
      (lower) => write(lower, 'one', 'old'),
      (merged) => {
        writeFileSync(join(merged, 'one'), 'new');
        for (const name of ['two', 'three']) linkSync(join(merged, 'one'), join(merged, name));
      },
    );
    await apply(stack, target, { include: ({ path }) => path === 'one' });
    const told: ApplyProgress[] = [];
    const { applied } = await apply(stack, target, {
      include: ({ path }) => path === 'two',
      onProgress: (done) => told.push(done),
    });
    expect(applied.map(({ path }) => path)).toEqual(['two']);
    expect(told.at(-1)).toMatchObject({ phase: 'placing', entries: 1, total: 1 });
    expect(lstatSync(join(target, 'one')).ino).toBe(lstatSync(join(target, 'two')).ino);
    expect(readFileSync(join(target, 'one'), 'utf8')).toBe('new');
    write(target, 'three', 'mine');
    const inodes = () => ['one', 'two', 'three'].map((name) => lstatSync(join(target, name)).ino);
    const before = inodes();
    await apply(stack, target, { include: ({ path }) => path === 'three', onConflict: () => 'skip' });
    expect(inodes()).toEqual(before);
  });

  it('goes deeper than paths are long', async () => {
    const { lower, upper, work } = scratch.layers();
    const target = scratch.directory('copy');
    const dig = `import os, sys
os.chdir(sys.argv[1])
for i in range(151):
    name = 'd' * 27 + str(i) if i else sys.argv[2]
    os.mkdir(name); os.chdir(name); open('file', 'w').close()`;
    unlinkSync(join(lower, 'hello'));
    for (const [root, name] of [
      [lower, 'gone'],
      [target, 'gone'],
      [upper, 'new'],
    ] as const)
      execFileSync('python3', ['-c', dig, root, name]);
    await createWhiteout(upper, 'gone');
    const { applied } = await apply({ lower, upper, work }, target);
    expect(applied.filter(({ kind }) => kind === 'deleted')).toHaveLength(1);
    expect(applied.filter(({ kind, type }) => kind === 'added' && type === 'file')).toHaveLength(151);
    const found = execFileSync('find', ['.', '-name', 'file', '-printf', 'f'], { cwd: target });
    expect(found).toHaveLength(151);
    expect(readdirSync(target)).toEqual(['new']);
  });

  it('follows the layers, not the target: another file system will do', async () => {
    const { stack, target } = await changed(scratch, tree, edit);
    const elsewhere = scratch.directory('elsewhere');
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'mode=0755', 'overlayfs-test', elsewhere]);
    afterThisTest(() => execFileSync('umount', [elsewhere]));
    execFileSync('cp', ['-a', `${target}/.`, elsewhere]);
    await apply(stack, elsewhere);
    expect(readFileSync(join(elsewhere, 'd/f'), 'utf8')).toBe('new');
    expect(readdirSync(elsewhere).sort()).toEqual(['d', 'hello']);
  });

  describe('interrupted', () => {
    const many = 3000;
    const fill = (lower: string) => {
      for (let i = 0; i < many; i++) write(lower, `d${i % 30}/f${i}`, `old ${i}`);
    };
    const shuffle = (merged: string) => {
      for (let i = 0; i < many; i++) {
        const path = join(merged, `d${i % 30}/f${i}`);
        if (i % 4 === 0) writeFileSync(path, `new ${i}`);
        if (i % 4 === 1) unlinkSync(path);
        if (i % 4 === 2) renameSync(path, join(merged, `d${i % 30}/g${i}`));
      }
    };

    it('is taken back when it is aborted, at any moment', async () => {
      const { stack, target } = await changed(scratch, fill, shuffle);
      const all = await collected(stack);
      const before = await snapshot(target);
      const start = performance.now();
      const probe = scratch.path('probe');
      execFileSync('cp', ['-a', target, probe]);
      await applyChanges(all, probe);
      const whole = performance.now() - start;
      let aborted = 0;
      for (let part = 0; part < 12; part++) {
        const signal = AbortSignal.timeout(Math.round((whole * part) / 12));
        const done = await applyChanges(all, target, { signal }).then(
          () => true,
          (reason: unknown) => {
            expect(reason).toBe(signal.reason);
            return false;
          },
        );
        if (done) break;
        aborted++;
        expect(await snapshot(target)).toEqual(before);
      }
      expect(aborted).toBeGreaterThan(2);
    });

    it('takes nothing from outside of the target, whatever a record in it says', async () => {
      const { stack, target } = await changed(scratch, tree, edit);
      write(scratch.root, 'outside/secret', 'secret');
      const forged = (record: string) => {
        rmSync(join(target, '#overlayfs-apply'), { recursive: true, force: true });
        write(target, '#overlayfs-apply/record', record);
        write(target, '#overlayfs-apply/readme', marker);
        chmodSync(join(target, '#overlayfs-apply'), 0o700);
      };
      for (const record of [
        '../../outside/secret\0stolen\0stolen\0',
        'm1\0../stolen\0../stolen\0',
        '..\0stolen\0stolen\0',
      ]) {
        forged(record);
        write(target, '#overlayfs-apply/m1', 'taken');
        await expect(apply(stack, target)).rejects.toMatchObject({ code: 'ERR_OVERLAY_APPLY_HALF_DONE' });
        expect(readdirSync(target).sort()).toEqual(['#overlayfs-apply', 'd', 'hello', 'other']);
        expect(readdirSync(scratch.root)).not.toContain('stolen');
        expect(readFileSync(scratch.path('outside/secret'), 'utf8')).toBe('secret');
      }
      forged('');
      unlinkSync(join(target, '#overlayfs-apply/record'));
      symlinkSync('/dev/zero', join(target, '#overlayfs-apply/record'));
      await expect(apply(stack, target)).rejects.toMatchObject({ code: 'ERR_OVERLAY_TARGET_UNREACHABLE' });
    });

    it('loses nothing when it is killed: the next run puts back what was taken out', {
      timeout: 120_000,
    }, async () => {
      const { stack, target } = await changed(scratch, fill, shuffle);
      const pristine = scratch.path('pristine');
      execFileSync('cp', ['-a', target, pristine]);
      for (const delay of [0, 30, 60, 100]) {
        rmSync(target, { recursive: true });
        execFileSync('cp', ['-a', pristine, target]);
        await killedAfter(stack, target, delay);
        await apply(stack, target, { onConflict: () => 'apply' });
        expect(readdirSync(target).filter((name) => name.startsWith('#'))).toEqual([]);
        await expectSameContent(stack, target, scratch);
      }
    });
  });
});

// What says that a directory is ours, as a forger would have it.
const marker = `The npm package overlayfs applies changes to the directory above, or was killed over it. What it has taken
out of there lies here: the next call for that directory puts it back.
`;

async function expectSameContent(stack: LayerStack, target: string, scratch: Scratch): Promise<void> {
  await using overlay = await mountOverlay({ ...stack, target: scratch.directory('again') });
  const contents = async (path: string) =>
    Object.entries(await view(path)).map(([name, { type, content, mode }]) => [name, type, content, mode]);
  expect(await contents(target)).toEqual(await contents(overlay.target as string));
}

// A process that applies, and is killed so long after it has begun to.
async function killedAfter(stack: LayerStack, target: string, delay: number): Promise<void> {
  const library = new URL('../../lib/index.ts', import.meta.url).href;
  const program = `import { applyChanges, changes } from ${JSON.stringify(library)};
    const all = []; const stream = changes(${JSON.stringify(stack)});
    for await (const change of stream) all.push(change);
    console.log('begun');
    await applyChanges(all, ${JSON.stringify(target)});`;
  const child = spawn(process.execPath, [...importTypeScript, '--input-type=module', '--eval', program], {
    cwd: fileURLToPath(new URL('../..', import.meta.url)),
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const ended = once(child, 'exit');
  await once(child.stdout, 'data');
  await new Promise((resolve) => setTimeout(resolve, delay));
  child.kill('SIGKILL');
  await ended;
  expect(lstatSync(target).isDirectory()).toBe(true);
}
