// `overlayfs apply` as a process: from overlays and layers into directories.
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { describePrivileged } from '../support/needs.ts';
import { afterThisTest, scratchOn } from '../support/scratch.ts';
import { main, overlayfs } from './run.ts';

describePrivileged('overlayfs apply', () => {
  const scratch = scratchOn();
  const changed = (act?: (target: string) => void) => {
    const { lower, upper, work, target } = scratch.layers();
    for (const file of ['gone/file', 'directory/file']) scratch.file(join('lower', file), file);
    const copy = scratch.path('copy');
    execFileSync('cp', ['-a', lower, copy]);
    const options = `lowerdir=${lower},upperdir=${upper},workdir=${work}`;
    execFileSync('mount', ['-t', 'overlay', 'theirs', '-o', options, target]);
    afterThisTest(() => execFileSync('umount', ['-q', target]));
    const change = (merged: string) => {
      writeFileSync(join(merged, 'hello'), 'changed');
      writeFileSync(join(merged, 'directory/new'), 'new');
      rmSync(join(merged, 'gone'), { recursive: true });
    };
    (act ?? change)(target);
    return { layers: ['-l', lower, '-u', upper, '-w', work], lower, target, copy };
  };
  const all = [
    'added     directory/new  3 B',
    'deleted   gone/',
    'modified  hello  mtime, size, content; 14 B → 7 B',
  ];
  const lines = (stdout: string) => stdout.trimEnd().split('\n');
  const text = (...names: string[]) => readFileSync(join(...names), 'utf8');

  it('makes a directory look as the overlay does', () => {
    const { target, copy } = changed();
    const { status, stdout, stderr } = overlayfs('apply', target, copy);
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    expect(lines(stdout)).toEqual([...all, '3 applied, 10 B copied.']);
    expect(readdirSync(copy).sort()).toEqual(['directory', 'hello']);
    expect([text(copy, 'hello'), text(copy, 'directory/new')]).toEqual(['changed', 'new']);
  });

  it('--dry-run tells the same and does nothing', () => {
    const { target, copy } = changed();
    const { status, stdout } = overlayfs('apply', '--dry-run', target, copy);
    expect({ status, lines: lines(stdout) }).toEqual({ status: 0, lines: [...all, 'Would be: 3 applied.'] });
    expect([text(copy, 'hello'), existsSync(join(copy, 'gone/file'))]).toEqual(['from the lower', true]);
  });

  it('touches nothing where the directory is another, unless it is told what to do', () => {
    const { target, copy } = changed();
    writeFileSync(join(copy, 'hello'), 'of their own');
    const refused = overlayfs('apply', target, copy);
    expect(refused).toMatchObject({
      status: 1,
      stdout: '',
      stderr: expect.stringMatching(
        /\(ERR_OVERLAY_APPLY_CONFLICT\)\n {2}why: hello .*\n {2}fix: .*--on-conflict/,
      ),
    });
    expect(existsSync(join(copy, 'gone'))).toBe(true);

    const tried = overlayfs('apply', '--dry-run', target, copy);
    const conflict = 'skipped   hello has another content in the target';
    expect({ status: tried.status, lines: lines(tried.stdout) }).toEqual({
      status: 1,
      lines: [...all.slice(0, 2), conflict, 'Nothing would be applied: 1 conflict or need what conflicts.'],
    });

    const skipping = overlayfs('apply', '--on-conflict', 'skip', target, copy);
    expect({ status: skipping.status, lines: lines(skipping.stdout) }).toEqual({
      status: 0,
      lines: [...all.slice(0, 2), conflict, '2 applied, 1 skipped, 3 B copied.'],
    });
    expect([text(copy, 'hello'), existsSync(join(copy, 'gone'))]).toEqual(['of their own', false]);

    expect(overlayfs('apply', '--on-conflict', 'apply', '--include', 'hello', target, copy).status).toBe(0);
    expect(text(copy, 'hello')).toBe('changed');
  });

  it('--json prints a line for each change, with what was decided, and what came of it', () => {
    const { target, copy } = changed();
    writeFileSync(join(copy, 'hello'), 'of their own');
    const { stdout } = overlayfs(
      'apply',
      '--json',
      '--on-conflict',
      'skip',
      '--exclude',
      'gone',
      target,
      copy,
    );
    const [first, second, done] = lines(stdout).map((line) => JSON.parse(line));
    expect(first).toMatchObject({ decision: 'applied', change: { kind: 'added', path: 'directory/new' } });
    expect(second).toMatchObject({
      decision: 'skipped',
      conflict: { reason: 'content', path: 'hello' },
      change: { kind: 'modified', path: 'hello' },
    });
    expect(done.done).toEqual({
      dryRun: false,
      applied: 1,
      skipped: 1,
      bytes: '3',
      methods: { clone: 0, copy_file_range: 1, sendfile: 0, 'read-write': 0 },
      dropped: [],
      left: [],
    });
  });

  it('takes layers, and the lower itself once no overlay uses it', () => {
    const { target, layers, lower } = changed();
    const inUse = overlayfs('apply', ...layers, lower);
    expect(inUse).toMatchObject({ status: 1, stderr: expect.stringContaining('ERR_OVERLAY_TARGET_IN_USE') });
    execFileSync('umount', [target]);
    afterThisTest(() => execFileSync('mount', ['-t', 'tmpfs', 'for the umount', target]));
    expect(lines(overlayfs('apply', ...layers, lower).stdout)).toEqual([...all, '3 applied, 10 B copied.']);
    expect(text(lower, 'hello')).toBe('changed');
  });

  it('takes back what it has done when it is interrupted, and then ends by the signal', async () => {
    const { target, copy } = changed((merged) =>
      execFileSync('sh', [
        '-c',
        'cd "$0" && for i in 1 2 3 4 5 6 7 8; do head -c 200M /dev/zero > "big$i"; done',
        merged,
      ]),
    );
    const child = spawn(process.execPath, [main, 'apply', target, copy], { stdio: 'inherit' });
    const ended = once(child, 'exit');
    while (!readdirSync(copy).includes('#overlayfs-apply'))
      await new Promise((resolve) => setTimeout(resolve, 5));
    child.kill('SIGTERM');
    expect(await ended).toEqual([null, 'SIGTERM']);
    expect(readdirSync(copy).sort()).toEqual(['directory', 'gone', 'hello']);
  });

  it('says what is wrong', () => {
    const { target, copy, layers } = changed();
    const failed = (...args: string[]) => {
      const { status, stderr } = overlayfs('apply', '--json', ...args);
      const { code, message } = (JSON.parse(stderr) as { error: { code?: string; message: string } }).error;
      return code === undefined ? { status, message } : { status, code };
    };
    expect(failed(copy, copy)).toEqual({ status: 1, code: 'ERR_OVERLAY_NOT_AN_OVERLAY' });
    expect(failed(target, scratch.path('none'))).toEqual({ status: 1, code: 'ERR_OVERLAY_TARGET_NOT_FOUND' });
    for (const [args, message] of [
      [[], 'DIRECTORY is missing'],
      [[copy], 'TARGET is missing, or layers with --lower'],
      [[...layers, target, copy], 'TARGET or --lower, not both'],
      [[target, copy, 'x'], "unexpected argument 'x'"],
      [[target, ''], 'target is empty'],
      [
        ['--on-conflict', 'x', target, copy],
        "--on-conflict must be one of abort, skip, apply (received 'x')",
      ],
    ] as const) {
      expect(failed(...args)).toEqual({ status: 2, message });
    }
  });
});
