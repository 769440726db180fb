// Every subcommand as a process: what it does, what it prints, its JSON and its exit codes.
import { spawn } from 'node:child_process';
import { appendFileSync, mkdirSync, readdirSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { waitingShell } from '../support/child.ts';
import { describePrivileged } from '../support/needs.ts';
import { afterThisTest, mountPoints, scratchOn } from '../support/scratch.ts';
import { main, overlayfs, run } from './run.ts';

const decimal = expect.stringMatching(/^\d+$/);
const answer = {
  ok: expect.any(Boolean),
  reason: expect.stringMatching(/./),
  evidence: expect.stringMatching(/./),
};
const json = ({ stdout }: { stdout: string }) => JSON.parse(stdout);

describePrivileged('overlayfs', () => {
  const scratch = scratchOn();
  const mounted = (...more: string[]) => {
    const { lower, upper, work, target } = scratch.layers();
    const ran = overlayfs('mount', '-l', lower, '-u', upper, '-w', work, ...more, target);
    afterThisTest(() => mountPoints().includes(target) && overlayfs('unmount', target));
    return { lower, upper, work, target, ran };
  };

  it('mount leaves an overlay that outlives the command, and unmount takes it away', () => {
    const { target, ran } = mounted();
    expect(ran).toEqual({ status: 0, stdout: `${target} mounted by layer-fds\n`, stderr: '' });
    expect(readdirSync(target)).toEqual(['hello']);
    expect(overlayfs('unmount', target)).toEqual({ status: 0, stdout: `${target} unmounted\n`, stderr: '' });
    expect(mountPoints()).not.toContain(target);
  });

  it('mount --json tells target, mount id, report and plan', () => {
    const { lower, upper, work, target, ran } = mounted(
      '--json',
      '--xino',
      'auto',
      '--noexec',
      '-o',
      'fsync=auto',
    );
    expect(json(ran)).toEqual({
      target,
      mountId: decimal,
      report: {
        rung: 'layer-fds',
        fallbacks: [],
        degradations: [],
        unverified: [],
        propagated: false,
        madeTarget: false,
      },
      plan: {
        lower: [lower],
        dataOnlyLower: [],
        upper,
        work,
        scratch: false,
        target,
        options: {
          redirect_dir: 'follow',
          index: 'off',
          nfs_export: 'off',
          xino: 'auto',
          metacopy: 'off',
          fsync: 'auto',
        },
        readonly: false,
        mountFlags: ['noexec'],
        propagation: 'private',
        source: 'overlayfs',
        rungs: ['layer-fds', 'layer-names', 'mount', 'mount-fd-names'],
        degradations: [],
      },
    });
  });

  it('mount takes every layer that has a name, UTF-8 or not', () => {
    const { lower, target } = scratch.layers();
    const odd = Buffer.concat([Buffer.from(`${lower}/`), Buffer.from('a,b:c\\\xff', 'latin1')]);
    mkdirSync(odd);
    mkdirSync(Buffer.concat([odd, Buffer.from('/inside')]));
    // A shell gives arguments in bytes; spawn() takes strings alone.
    const script = `exec "$0" "$1" mount --json -l "$2/$(printf 'a,b:c\\\\\\377')" --scratch "$3"`;
    const ran = run('sh', ['-c', script, process.execPath, main, lower, target]);
    afterThisTest(() => overlayfs('unmount', target));
    expect(ran.stderr).toBe('');
    expect(json(ran).plan.lower).toEqual([`${lower}/a,b:c\\x5c\\xff`]);
    expect(readdirSync(target)).toEqual(['inside']);
    const [listed] = json(overlayfs('ls', '--json')).filter(
      (one: { target: string }) => one.target === target,
    );
    expect(listed.lower).toEqual([{ path: `${lower}/a,b:c\\x5c\\xff`, pathBytes: odd.toString('base64') }]);
  });

  it('mount --dry-run sends nothing', () => {
    const { lower, target } = scratch.layers();
    const ran = overlayfs('mount', '-l', lower, '--scratch=1M', '--dry-run', '--json', target);
    expect(json(ran)).toMatchObject({ lower: [lower], scratch: true, target });
    expect(mountPoints()).not.toContain(target);
    const { stdout } = overlayfs('mount', '-l', lower, '--scratch', '--dry-run', target);
    expect(stdout).toMatch(/^options +redirect_dir=follow index=off /m);
  });

  it('which tells where a path of a mount comes from, and what it hides', () => {
    const { lower, upper, target } = mounted();
    appendFileSync(join(target, 'hello'), '!');
    symlinkSync(target, scratch.path('link'));
    for (const through of [target, scratch.path('link')]) {
      expect(overlayfs('which', join(through, 'hello'))).toEqual({
        status: 0,
        stdout: [
          'hello is a file',
          `from      upper ${upper}/hello`,
          `hidden    lower[0] ${lower}/hello (file: upper ${upper}/hello)`,
          '',
        ].join('\n'),
        stderr: '',
      });
    }
    const ran = overlayfs('which', '--json', join(target, 'hello'));
    expect(json(ran)).toMatchObject({
      path: 'hello',
      exists: true,
      type: 'file',
      place: { layer: 'upper', index: 0 },
    });
  });

  it('which reads layers that are not mounted, and fails where a mount would', () => {
    const { lower, upper } = scratch.layers();
    run('mknod', [join(upper, 'hello'), 'c', '0', '0']);
    const layers = ['-l', lower, '-u', upper];
    const { status, stdout } = overlayfs('which', ...layers, 'hello');
    expect({ status, stdout: stdout.split('\n').slice(0, 2) }).toEqual({
      status: 1,
      stdout: ['hello: ENOENT', `whiteout  upper ${upper}/hello`],
    });
    expect(overlayfs('which', ...layers, '/').stdout).toContain(`merged    lower[0] ${lower}\n`);
    expect(overlayfs('which', join(lower, 'hello'))).toMatchObject({
      status: 1,
      stderr: expect.stringContaining('ERR_OVERLAY_NOT_AN_OVERLAY'),
    });
  });

  it('tells what failed, why and what to do', () => {
    const { lower, target } = scratch.layers();
    const ran = overlayfs('mount', '-l', lower, '-l', '/nowhere/at/all', target);
    expect(ran).toEqual({
      status: 1,
      stdout: '',
      stderr: [
        `overlayfs mount: cannot mount ${target} (ERR_OVERLAY_LAYER_NOT_FOUND)`,
        '  why: lower[1] /nowhere/at/all does not exist',
        '  fix: Make the directory, or correct the path',
        '',
      ].join('\n'),
    });
  });

  it('tells the same in JSON on stderr', () => {
    const { lower, target } = scratch.layers();
    const ran = overlayfs('mount', '--json', '-l', lower, '-l', '/nowhere', target);
    expect({ status: ran.status, stdout: ran.stdout }).toEqual({ status: 1, stdout: '' });
    expect(JSON.parse(ran.stderr)).toEqual({
      error: {
        code: 'ERR_OVERLAY_LAYER_NOT_FOUND',
        message: expect.stringContaining('/nowhere does not exist'),
        findings: [
          {
            code: 'ERR_OVERLAY_LAYER_NOT_FOUND',
            severity: 'error',
            path: '/nowhere',
            detail: 'lower[1] /nowhere does not exist',
            fix: 'Make the directory, or correct the path',
          },
        ],
        errno: -2,
        syscall: 'openat',
        path: '/nowhere',
      },
    });
  });

  it('ls is a table, and JSON', () => {
    const { lower, upper, work, target } = mounted();
    const row = (text: string) => text.split('\n').find((line) => line.startsWith(`${target} `));
    expect(overlayfs('ls').stdout).toMatch(/^TARGET +LOWER +UPPER +OWNER\n/);
    expect(row(overlayfs('ls').stdout)?.split(/ +/)).toEqual([target, lower, upper, 'overlayfs']);
    const listed = json(overlayfs('ls', '--json')).filter((one: { target: string }) => one.target === target);
    expect(listed).toEqual([
      {
        mountId: decimal,
        parentId: decimal,
        uniqueIds: true,
        target,
        source: 'overlayfs',
        owner: 'overlayfs',
        lower: [{ path: lower }],
        dataOnlyLower: [],
        upper: { path: upper },
        work: { path: work },
        options: expect.any(Object),
        readonly: false,
        mountFlags: [],
        propagation: ['private'],
      },
    ]);
  });

  it('ls does not mind that nobody reads on', () => {
    mounted();
    const ran = run('sh', ['-c', '"$0" "$1" ls --json | head -c 1', process.execPath, main]);
    expect(ran).toEqual({ status: 0, stdout: '[', stderr: '' });
  });

  it('holders names who is there, and unmount says it', async () => {
    const { target } = mounted();
    await using shell = await waitingShell(`cd ${target}`);
    expect(overlayfs('holders', target).stdout).toMatch(new RegExp(`^${shell.pid} .* cwd +${target}$`, 'm'));
    // Other tests may have mount namespaces of their own, with copies of the mount.
    const cat = { kind: 'cwd', pid: shell.pid, uid: 0, comm: 'cat', path: target };
    expect(json(overlayfs('holders', '--json', target))).toEqual({
      holders: expect.arrayContaining([cat]),
      unseen: expect.any(Array),
    });
    const busy = overlayfs('unmount', '--timeout', '0', target);
    expect({ status: busy.status, stdout: busy.stdout }).toEqual({ status: 1, stdout: '' });
    expect(busy.stderr).toMatch(/\(ERR_OVERLAY_BUSY\)\n {2}why: .*cat.*\n {2}fix: .*\n$/);
    const told = JSON.parse(overlayfs('unmount', '--json', '--timeout', '0', target).stderr);
    expect(told.error).toMatchObject({ code: 'ERR_OVERLAY_BUSY', holders: expect.arrayContaining([cat]) });
    expect(json(overlayfs('unmount', '--lazy', '--json', target))).toEqual({ target, unmounted: true });
  });

  it('doctor fails when something is wrong, and only then', () => {
    const { lower, upper, work, target } = scratch.layers();
    const bad = overlayfs('doctor', '-l', lower, '-u', `${lower}/hello`, '-w', work, target);
    expect({ status: bad.status, stderr: bad.stderr }).toEqual({ status: 1, stderr: '' });
    expect(bad.stdout).toMatch(/^error: ERR_OVERLAY_LAYER_NOT_DIRECTORY\n {2}why: .*\n {2}fix: /);
    const nowhere = overlayfs('doctor', '-l', lower, scratch.path('no'));
    expect(nowhere.stdout).toContain('set --mkdir-target, which makes one level');
    const good = overlayfs('doctor', '--json', '-l', lower, '-u', upper, '-w', work);
    expect(good.status).toBe(0);
    for (const finding of json(good)) {
      expect(finding).toMatchObject({
        code: expect.stringMatching(/^WARN_OVERLAY_/),
        severity: expect.stringMatching(/^(warning|info)$/),
        detail: expect.stringMatching(/./),
        fix: expect.stringMatching(/./),
      });
    }
  });

  it('support reports the kernel and the directories', () => {
    const upper = scratch.directory('upper');
    const told = json(overlayfs('support', '--json', '--upper', upper));
    expect(told).toMatchObject({
      kernel: { release: expect.any(String), bootId: expect.any(String) },
      mount: answer,
      rungs: { 'layer-fds': answer, 'layer-names': answer, mount: answer },
      options: { index: { on: answer, off: answer } },
      upper: {
        path: upper,
        fileSystem: 'tmpfs',
        whiteout: answer,
        room: { bytes: decimal, inodes: decimal },
      },
    });
    expect(overlayfs('support').stdout).toMatch(/^Linux .*\n\nMounting\n {2}yes {2}mount /);
    expect(overlayfs('support', '--lower', '/nowhere').status).toBe(1);
  });

  it('sweep unmounts what a killed process left, and tells of it first', async () => {
    const { lower, target } = scratch.layers();
    const module = `import { mountOverlay } from ${JSON.stringify(new URL('../../dist/index.js', import.meta.url).href)};
      await mountOverlay({ lower: ${JSON.stringify(lower)}, scratch: true, target: ${JSON.stringify(target)} });
      process.kill(process.pid, 'SIGKILL');`;
    const child = spawn(process.execPath, ['--input-type=module', '-e', module], { stdio: 'inherit' });
    await new Promise((resolve) => child.once('exit', resolve));
    const mine = (ran: { stdout: string }) =>
      json(ran).filter((one: { target: string }) => one.target === target);
    const orphan = {
      target,
      mountId: decimal,
      owner: expect.objectContaining({ pid: child.pid, startTime: decimal }),
    };
    expect(mine(overlayfs('sweep', '--dry-run', '--json'))).toEqual([{ ...orphan, state: 'orphan' }]);
    expect(overlayfs('sweep', '--dry-run').stdout).toContain(`orphan     ${target}  pid ${child.pid}\n`);
    expect(mine(overlayfs('sweep', '--json'))).toEqual([{ ...orphan, state: 'unmounted' }]);
    expect(mountPoints()).not.toContain(target);
  });

  it('demo tells its story, in JSON too, and leaves nothing', () => {
    for (const tree of ['one', 'two']) {
      for (const file of ['a', 'b']) scratch.file(`tree/${tree}/${file}`, 'text');
    }
    const told = overlayfs('demo', scratch.path('tree'));
    expect({ status: told.status, stderr: told.stderr }).toEqual({ status: 0, stderr: '' });
    expect(told.stdout).toMatch(/^Mounted .*\n\nwhat we did +what the kernel did in the upper\n/);
    const { tree, steps, left } = json(overlayfs('demo', '--json', scratch.path('tree')));
    expect({ tree, left }).toEqual({ tree: scratch.path('tree'), left: 0 });
    expect(steps).toHaveLength(9);
    expect(steps[0]).toEqual({ step: expect.any(String), kernel: expect.any(String) });
    expect(mountPoints().filter((point) => point.includes('/overlayfs-demo-'))).toEqual([]);
  });
});

describe('colours', () => {
  it('are for terminals alone, and not with NO_COLOR', () => {
    const doctor = [process.execPath, main, 'doctor', '-l', '/nowhere'];
    // script(1) runs its command on a terminal of its own.
    const onTerminal = (env: NodeJS.ProcessEnv) =>
      run('script', ['-qec', doctor.join(' '), '/dev/null'], { env: { TERM: 'xterm', ...env } }).stdout;
    expect(run('sh', ['-c', `${doctor.join(' ')} | cat`]).stdout).not.toContain('\x1b');
    expect(onTerminal({})).toContain('\x1b[31merror\x1b[39m');
    expect(onTerminal({ NO_COLOR: '1' })).not.toContain('\x1b');
    expect(onTerminal({ TERM: 'dumb' })).not.toContain('\x1b');
  });
});
