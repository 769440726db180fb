// `overlayfs copy-up` as a process, on overlays that are its own, somebody else's, or none.
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { describePrivileged } from '../support/needs.ts';
import { afterThisTest, scratchOn } from '../support/scratch.ts';
import { overlayfs } from './run.ts';

describePrivileged('overlayfs copy-up', () => {
  const scratch = scratchOn();
  const mounted = () => {
    const { lower, upper, work, target } = scratch.layers();
    scratch.file('lower/directory/sub/file', 'text');
    const options = `lowerdir=${lower},upperdir=${upper},workdir=${work}`;
    execFileSync('mount', ['-t', 'overlay', 'theirs', '-o', options, target]);
    afterThisTest(() => execFileSync('umount', [target]));
    return { upper, target };
  };

  it('copies up what it is told to, in a mount that mount(8) has made', () => {
    const { upper, target } = mounted();
    expect(overlayfs('copy-up', target, 'hello')).toEqual({
      status: 0,
      stdout: 'hello: copied up\n',
      stderr: '',
    });
    expect(readFileSync(`${upper}/hello`, 'utf8')).toBe('from the lower');
    const { status, stdout } = overlayfs('copy-up', '-r', '--concurrency', '2', target, 'directory', 'hello');
    expect(status).toBe(0);
    expect(stdout.trimEnd().split('\n').sort()).toEqual([
      'directory/sub/file: copied up',
      'directory/sub: copied up',
      'directory: copied up',
      'hello: skipped, in the upper already',
    ]);
    expect(readdirSync(`${upper}/directory/sub`)).toEqual(['file']);
  });

  it('--json gives the results as the library does', () => {
    const { target } = mounted();
    const { stdout } = overlayfs('copy-up', '--json', target, 'directory/sub/file');
    expect(JSON.parse(stdout)).toEqual([
      { path: 'directory/sub/file', method: 'kernel', bytes: '4', cloned: false },
    ]);
  });

  it('says what is wrong', () => {
    const { target } = mounted();
    const failed = (...args: string[]) => {
      const { status, stderr } = overlayfs('copy-up', '--json', ...args);
      return { status, ...(JSON.parse(stderr) as { error: { code: string } }).error };
    };
    expect(failed(target, 'missing')).toMatchObject({ status: 1, code: 'ENOENT', path: 'missing' });
    expect(failed(target, '../x')).toMatchObject({ status: 1, code: 'ERR_OVERLAY_PATH_ESCAPES' });
    expect(failed(scratch.root, 'x')).toMatchObject({ status: 1, code: 'ERR_OVERLAY_NOT_AN_OVERLAY' });
    expect(failed(scratch.path('none'), 'x')).toMatchObject({
      status: 1,
      code: 'ERR_OVERLAY_TARGET_NOT_FOUND',
    });
    expect(failed(`${target}/hello`, 'x')).toMatchObject({
      status: 1,
      code: 'ERR_OVERLAY_TARGET_NOT_DIRECTORY',
    });
    expect(failed(target)).toMatchObject({ status: 2, message: 'PATH is missing' });
    expect(failed('--concurrency', 'x', target, 'hello')).toMatchObject({ status: 2 });
    expect(failed('--concurrency', '65', target, 'hello')).toMatchObject({ status: 2 });
    expect(failed(target, '')).toMatchObject({ status: 2, message: 'paths[0] is empty' });
  });
});
