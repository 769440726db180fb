// `overlayfs diff` as a process, on overlays that somebody else has mounted and on layers that nobody has.
import { execFileSync } from 'node:child_process';
import {
  appendFileSync,
  chmodSync,
  mkdirSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { describePrivileged } from '../support/needs.ts';
import { afterThisTest, scratchOn } from '../support/scratch.ts';
import { setXattr } from '../support/xattr.ts';
import { main, overlayfs, run } from './run.ts';

describePrivileged('overlayfs diff', () => {
  const scratch = scratchOn();
  const changed = () => {
    const { lower, upper, work, target } = scratch.layers();
    for (const file of ['directory/file', 'gone/file', 'opaque/file', 'mode', 'type', 'same'])
      scratch.file(join('lower', file), file);
    const options = `lowerdir=${lower},upperdir=${upper},workdir=${work},redirect_dir=on`;
    execFileSync('mount', ['-t', 'overlay', 'theirs', '-o', options, target]);
    afterThisTest(() => execFileSync('umount', [target]));
    const inside = (name: string) => join(target, name);
    appendFileSync(inside('hello'), ', and more');
    renameSync(inside('directory'), inside('renamed'));
    for (const name of ['gone', 'opaque', 'type']) rmSync(inside(name), { recursive: true });
    for (const name of ['opaque', 'type']) mkdirSync(inside(name));
    writeFileSync(inside('opaque/new'), 'new');
    chmodSync(inside('mode'), 0o600);
    return { layers: ['-l', lower, '-u', upper, '-w', work], target };
  };
  const odd = (target: string) =>
    execFileSync('sh', [
      '-c',
      `cd "$0" && touch "$(printf 'quote\\042')" "$(printf 'tab\\tand\\377')"`,
      target,
    ]);

  it('tells what has changed, and how', () => {
    const { target, layers } = changed();
    const told = {
      status: 0,
      stdout: [
        'deleted   gone/',
        'modified  hello  mtime, size, content; 14 B → 24 B',
        'metadata  mode  mode',
        'replaced  opaque/  another directory',
        'added     opaque/new  3 B',
        'renamed   renamed/  from directory',
        'replaced  type/  was a file',
        '',
      ].join('\n'),
      stderr: '',
    };
    expect(overlayfs('diff', target)).toEqual(told);
    symlinkSync(target, scratch.path('link'));
    expect(overlayfs('diff', scratch.path('link'))).toEqual(told);
    expect(overlayfs('diff', ...layers, '--redirect-dir', 'on')).toEqual(told);
  });

  it('--name-status prints it as git does', () => {
    const { target } = changed();
    odd(target);
    expect(overlayfs('diff', '--name-status', target).stdout.split('\n')).toEqual([
      'D\tgone',
      'M\thello',
      'M\tmode',
      'T\topaque',
      'A\topaque/new',
      'A\t"quote\\""',
      'R\tdirectory\trenamed',
      'A\t"tab\\tand\\377"',
      'T\ttype',
      '',
    ]);
  });

  it('-z gives the bytes of paths, between NUL bytes', () => {
    const { target } = changed();
    odd(target);
    const { stdout } = run('sh', [
      '-c',
      '"$@" | od -An -c',
      '',
      process.execPath,
      main,
      'diff',
      '--name-status',
      '-z',
      target,
    ]);
    const text = stdout.replace(/\s+/g, ' ');
    expect(text).toContain('R \\0 d i r e c t o r y \\0 r e n a m e d \\0 A \\0 t a b \\t a n d 377 \\0');
    expect(text).toMatch(/^ D \\0 g o n e \\0 M /);
  });

  it('--json prints a line for each change, as the library has it, and what came of it', () => {
    const { target } = changed();
    const { status, stdout } = overlayfs('diff', '--json', target);
    const lines = stdout
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line));
    expect({ status, lines: lines.length }).toEqual({ status: 0, lines: 8 });
    expect(lines[1]).toEqual({
      kind: 'modified',
      path: 'hello',
      type: 'file',
      fields: ['mtime', 'size', 'content'],
      size: '24',
      previousSize: '14',
      allocatedBytes: expect.stringMatching(/^\d+$/),
      source: { layer: 'upper', index: 0, path: 'hello' },
    });
    expect(lines[5]).toMatchObject({ kind: 'renamed', path: 'renamed', from: 'directory' });
    expect(lines[7]).toEqual({
      done: {
        consistent: true,
        scannedLower: false,
        renamesCut: false,
        errors: [],
        counts: { added: 1, modified: 1, metadata: 1, deleted: 1, replaced: 2, renamed: 1 },
      },
    });
  });

  it('--stat sums it up', () => {
    const { target } = changed();
    const { stdout } = overlayfs('diff', '--stat', target);
    expect(stdout.split('\n').slice(0, 6)).toEqual([
      'Deleted (1):',
      '  gone/',
      'Replaced (2):',
      '  opaque/',
      '  type',
      'Changes: 1 added, 1 modified, 1 metadata, 1 deleted, 2 replaced, 1 renamed.',
    ]);
    expect(JSON.parse(overlayfs('diff', '--stat', '--json', target).stdout)).toMatchObject({
      deleted: [{ path: 'gone', type: 'directory' }],
      counts: { added: 1 },
      bytesAdded: expect.stringMatching(/^\d+$/),
    });
  });

  it('takes the options of changes() as flags', () => {
    const { target } = changed();
    const told = (...flags: string[]) =>
      overlayfs('diff', '--name-status', ...flags, target)
        .stdout.trimEnd()
        .replaceAll('\t', ' ')
        .split('\n');
    expect(told('--no-renames', '--include', 'renamed', '--include', 'directory')).toEqual([
      'D directory',
      'A renamed',
      'A renamed/file',
    ]);
    expect(told('--expand', '--include', 'gone', '--include', 'opaque')).toEqual([
      'D gone',
      'D gone/file',
      'T opaque',
      'D opaque/file',
      'A opaque/new',
    ]);
    expect(
      told('--exclude', 'renamed', '--exclude', 'type', '--exclude', 'opaque', '--threads', '1'),
    ).toEqual(['D gone', 'M hello', 'M mode']);
    expect(told('--dir-times', '--include', '.')).toContain('M .');
    execFileSync('touch', ['-r', join(target, 'same'), scratch.path('time')]);
    execFileSync('sh', [
      '-c',
      'printf SAME > "$0"; touch -r "$1" "$0"',
      join(target, 'same'),
      scratch.path('time'),
    ]);
    expect(told('--compare', 'content', '--include', 'same')).toEqual(['M same']);
  });

  it('--exit-code fails where something has changed, and nothing else does', () => {
    const { target } = changed();
    expect(overlayfs('diff', '--exit-code', '--name-status', target).status).toBe(1);
    expect(overlayfs('diff', '--exit-code', '--stat', target).status).toBe(1);
    expect(overlayfs('diff', '--exit-code', '--include', 'same', target)).toEqual({
      status: 0,
      stdout: '',
      stderr: '',
    });
  });

  it('--on-error collect tells the rest, then what failed, and fails', () => {
    const { layers } = changed();
    setXattr(join(layers[3] ?? '', 'renamed'), 'trusted.overlay.redirect', '../x');
    const thrown = overlayfs('diff', ...layers, '--redirect-dir', 'on');
    expect(thrown).toMatchObject({
      status: 1,
      stderr: expect.stringContaining('ERR_OVERLAY_REDIRECT_REFUSED'),
    });
    const flags = ['--name-status', '--on-error', 'collect', ...layers, '--redirect-dir', 'on'];
    const { status, stdout, stderr } = overlayfs('diff', ...flags);
    expect({ status, told: stdout.includes('A\topaque/new\n') }).toEqual({ status: 1, told: true });
    expect(stderr).toMatch(/^overlayfs diff: not looked at: .*renamed/);
  });

  it('ends quietly when nobody reads on, however much there is, and keeps little of it', () => {
    const { lower, upper, work } = scratch.layers();
    execFileSync('python3', [
      '-c',
      'import os, sys\nfor i in range(200000): os.mknod(f"{sys.argv[1]}/{i}")',
      upper,
    ]);
    const diff = [process.execPath, main, 'diff', '--json', '-l', lower, '-u', upper, '-w', work];
    const read = run('sh', ['-c', '{ "$@"; echo $? >&2; } | head -2', '', ...diff]);
    expect({ ...read, stdout: read.stdout.split('\n').length }).toEqual({
      status: 0,
      stdout: 3,
      stderr: '0\n',
    });
    expect(run('sh', ['-c', '"$@" > /dev/full', '', ...diff])).toMatchObject({
      status: 1,
      stderr: expect.stringMatching(/^overlayfs: cannot print: ENOSPC/),
    });
    const whole = run('python3', [
      '-c',
      `import resource, subprocess, sys
lines = 0
with subprocess.Popen(sys.argv[1:], stdout=subprocess.PIPE) as diff:
    for line in diff.stdout: lines += 1
print(lines, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024)`,
      ...diff,
    ]);
    const [lines = 0, mebibytes = 0] = whole.stdout.split(' ').map(Number);
    expect(lines).toBe(200_001);
    // The lines alone are 40 MiB.
    expect(mebibytes).toBeLessThan(160);
  });

  it('says what is wrong', () => {
    const { target, layers } = changed();
    const failed = (...args: string[]) => {
      const { status, stderr } = overlayfs('diff', '--json', ...args);
      const { code, message } = (JSON.parse(stderr) as { error: { code?: string; message: string } }).error;
      return code === undefined ? { status, message } : { status, code };
    };
    expect(failed(scratch.root)).toEqual({ status: 1, code: 'ERR_OVERLAY_NOT_AN_OVERLAY' });
    expect(failed(scratch.path('none'))).toEqual({ status: 1, code: 'ERR_OVERLAY_NOT_AN_OVERLAY' });
    expect(failed(...layers.slice(0, 2))).toEqual({ status: 1, code: 'ERR_OVERLAY_UPPER_MISSING' });
    expect(failed('--include', '../x', target)).toEqual({ status: 1, code: 'ERR_OVERLAY_PATH_ESCAPES' });
    for (const [args, message] of [
      [[], 'TARGET is missing, or layers with --lower'],
      [[...layers, target], 'TARGET or --lower, not both'],
      [['--upper', '/', target], '--upper needs --lower'],
      [['-z', target], '--null needs --name-status'],
      [['--stat', '--name-status', target], '--name-status or --stat, not both'],
      [['--name-status', target], '--name-status or --json, not both'],
      [['--threads', 'x', target], '--threads x: a number is wanted'],
      [['--include', '', target], 'include[0] is empty'],
      [['-l', ''], 'lower[0] is empty'],
    ] as const) {
      expect(failed(...args)).toEqual({ status: 2, message });
    }
    const { status, stderr } = overlayfs('diff', '--compare', 'x', target);
    expect(status).toBe(2);
    expect(stderr).toContain("--compare must be one of 'metadata', 'content', 'none' (received 'x')");
  });
});
