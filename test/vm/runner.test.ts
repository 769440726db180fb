/** The runner: what it passes on, what it blames on whom, and that nothing of it stays. */
import { execFileSync, type SpawnOptions, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { homedir, release } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';

const program = fileURLToPath(new URL('run.mjs', import.meta.url));
const project = fileURLToPath(new URL('../..', import.meta.url));
const cache = process.env.OVERLAYFS_VM_CACHE ?? join(homedir(), '.cache/overlayfs-vm');

interface Outcome {
  readonly status: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly out: string;
  readonly errors: string;
}

/** Starts the runner, through other commands if given. */
function start(
  args: readonly string[],
  { through = [] as readonly string[], ...options }: { through?: readonly string[] } & SpawnOptions = {},
) {
  const [command = '', ...rest] = [...through, program, ...args];
  return spawn(command, rest, { cwd: project, stdio: ['ignore', 'pipe', 'pipe'], ...options });
}

async function run(args: readonly string[], options: Parameters<typeof start>[1] = {}): Promise<Outcome> {
  const child = start(args, options);
  let [out, errors] = ['', ''];
  child.stdout?.on('data', (chunk) => {
    out += chunk;
  });
  child.stderr?.on('data', (chunk) => {
    errors += chunk;
  });
  const [status, signal] = await once(child, 'close');
  return { status, signal, out, errors };
}

const inVm = (script: string, ...options: readonly string[]) =>
  run(['--kernel', '6.12', '--cpus', '1', ...options, '--', 'sh', '-c', script]);

/** What a run could leave: mounts and sockets here, and names in the cache. */
function traces() {
  const here = (table: string) =>
    readFileSync(table, 'latin1')
      .split('\n')
      .filter((line) => /overlayfs-vm|virtiofs/.test(line));
  return {
    mounts: here('/proc/self/mountinfo'),
    sockets: here('/proc/net/unix').length,
    cache: readdirSync(cache).sort(),
  };
}

/** A process with all that it and its children have started. */
function family(pid: number): number[] {
  const children = readdirSync('/proc').filter((one) => /^\d+$/.test(one) && stateOf(one)?.parent === pid);
  return [pid, ...children.flatMap((child) => family(Number(child)))];
}

/** Those that run; one that nobody has asked how it ended has ended all the same. */
const running = (pids: readonly number[]) =>
  pids.filter((pid) => !['Z', undefined].includes(stateOf(`${pid}`)?.state));

function stateOf(pid: string): { state: string | undefined; parent: number } | undefined {
  try {
    const [, state, parent] = /\) (\S) (\d+)/.exec(readFileSync(`/proc/${pid}/stat`, 'latin1')) ?? [];
    return { state, parent: Number(parent) };
  } catch {
    return undefined; // it has ended
  }
}

const mark = `${process.pid}`;
function commandLine(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'latin1');
  } catch {
    return ''; // it has ended
  }
}

beforeAll(async () => {
  const { status, errors } = await run(['--kernel', '6.12', '--prepare']);
  if (status !== 0) throw new Error(errors);
});

describe('a command in a VM', () => {
  it('runs as root on that kernel, in this directory, with its arguments as they are', async () => {
    const odd = ["it's", 'a "b" $c `d`', 'back\\slash', '\n', ''];
    const shown = 'uname -r; id -u; pwd; printf "%s|" "$@"';
    const outcome = await run(['--kernel', '6.12', '--', 'sh', '-c', shown, 'sh', ...odd], {
      cwd: join(project, 'test'),
    });
    expect(outcome.out).toMatch(/^6\.12\./);
    expect(outcome.out.split('\n').slice(1, 3)).toEqual(['0', join(project, 'test')]);
    expect(outcome.out.split('\n').slice(3).join('\n')).toBe(odd.map((one) => `${one}|`).join(''));
    expect(outcome.status).toBe(0);
  });

  it('passes its exit status, a signal as 128 and more, and what it says apart', async () => {
    expect(await inVm('echo out; echo err >&2; echo again >/dev/stderr; exit 7')).toMatchObject({
      status: 7,
      out: 'out\n',
      errors: expect.stringMatching(/err\nagain\n$/),
    });
    expect((await inVm('kill -9 $$')).status).toBe(137);
    expect((await inVm('no-such-command')).status).toBe(127);
  });

  it('cannot kill the first process of the guest, and ends as it would have', async () => {
    const kill =
      'for signal in INT TERM HUP ABRT SEGV KILL; do kill -$signal 1; done; sleep 1; echo alive; exit 3';
    expect(await inVm(kill)).toMatchObject({ status: 3, out: 'alive\n' });
  });

  it('has an empty standard input, a fresh ext4 at /tmp, loop devices, user namespaces, and cannot write to this machine', async () => {
    const name = `overlayfs-vm-test-${mark}`;
    const { status, out, errors } = await inVm(`set -e
      test -z "$(cat)"
      test -z "$(ls -A /tmp)"; stat -f -c %T /tmp
      truncate -s 1M /tmp/image; losetup -f --show /tmp/image
      unshare --user --map-root-user --mount id -u
      echo gone >${name}; cat ${name}
      touch /usr/${name} 2>&1 || true
      mount -o remount,rw /usr 2>&1 || true; touch /usr/${name} 2>&1 || true`);
    expect(out, errors).toMatch(/^ext2\/ext3\n\/dev\/loop0\n0\ngone\n/);
    expect([existsSync(join(project, name)), existsSync(`/usr/${name}`), status]).toEqual([false, false, 0]);
  });

  it('is streamed as it goes', async () => {
    const child = start(['--kernel', '6.12', '--', 'sh', '-c', 'echo first; sleep 5; echo second']);
    const seen: [string, number][] = [];
    child.stdout?.on('data', (chunk) => seen.push([String(chunk), performance.now()]));
    await once(child, 'close');
    expect(seen.map(([text]) => text)).toEqual(['first\n', 'second\n']);
    expect((seen[1]?.[1] ?? 0) - (seen[0]?.[1] ?? 0)).toBeGreaterThan(3000);
  });

  it('may print 100 MiB to a reader that is slow, and not a byte is lost', async () => {
    const bytes = 100 << 20;
    const child = start(['--kernel', '6.12', '--', 'sh', '-c', `yes "0123456789abcdef" | head -c ${bytes}`]);
    const hash = createHash('sha256');
    let [read, pauses] = [0, 0];
    for await (const chunk of child.stdout ?? []) {
      hash.update(chunk);
      read += chunk.length;
      if (read >> 23 > pauses) {
        pauses++;
        await sleep(200);
      }
    }
    const expected = execFileSync('sh', ['-c', `yes "0123456789abcdef" | head -c ${bytes} | sha256sum`], {
      encoding: 'utf8',
    });
    expect([read, hash.digest('hex')]).toEqual([bytes, expected.slice(0, 64)]);
  });

  it('does not wait for what the command has left running', async () => {
    const begin = performance.now();
    expect(await inVm('sleep 1000 & echo done')).toMatchObject({ status: 0, out: 'done\n' });
    expect(performance.now() - begin).toBeLessThan(500_000);
  });

  it('can run beside another', async () => {
    const both = await Promise.all([inVm('echo one'), inVm('echo two')]);
    expect(both).toMatchObject([
      { status: 0, out: 'one\n' },
      { status: 0, out: 'two\n' },
    ]);
  });
});

describe('a VM that fails is told from a command that fails', () => {
  it.each([
    [
      'a panic',
      'echo 1 >/proc/sys/kernel/sysrq; echo c >/proc/sysrq-trigger; sleep 100',
      /it panicked[\s\S]*last lines[\s\S]*Kernel panic/,
    ],
    [
      'a restart',
      'kill -9 1; echo 1 >/proc/sys/kernel/sysrq; echo b >/proc/sysrq-trigger; sleep 100',
      /it was shut down or restarted/,
    ],
    ['a command that never ends', 'echo begun; sleep 1000', /did not end within 5 s[\s\S]*console/],
  ])('%s', async (_, script, reason) => {
    const { status, errors, out } = await inVm(script, '--timeout', script.includes('begun') ? '5' : '300');
    expect({ status, errors }).toEqual({ status: 125, errors: expect.stringMatching(reason) });
    expect(errors).toContain('the VM failed (6.12, Linux 6.12.');
    expect(out).toBe(script.includes('begun') ? 'begun\n' : '');
  });
});

describe('a run that is ended from outside leaves nothing', () => {
  it.each(['SIGINT', 'SIGTERM', 'SIGKILL'] as const)('%s', async (signal) => {
    const before = traces();
    const child = start(['--kernel', '6.12', '--', 'sh', '-c', 'echo up; sleep 1000']);
    if (child.stdout) await once(child.stdout, 'data');
    const started = family(child.pid ?? 0);
    const names = started.map((pid) => commandLine(`${pid}`).split('\0')[0]);
    expect(names).toEqual(
      expect.arrayContaining([expect.stringMatching(/qemu/), expect.stringMatching(/virtiofsd/)]),
    );
    child.kill(signal);
    expect((await once(child, 'close'))[1]).toBe(signal);
    await expect.poll(() => running(started), { timeout: 20_000 }).toEqual([]);
    await expect.poll(traces, { timeout: 20_000 }).toEqual(before);
  });
});

describe('what is wrong before anything runs', () => {
  let folder = '';
  beforeEach(() => {
    folder = mkdtempSync('/var/tmp/overlayfs-vm-test-');
  });
  afterEach(() => {
    for (const point of mountsBelow(folder).reverse()) execFileSync('umount', [point]);
    rmSync(folder, { recursive: true });
  });
  const mountsBelow = (path: string) =>
    readFileSync('/proc/self/mountinfo', 'utf8')
      .split('\n')
      .map((line) => line.split(' ')[4] ?? '')
      .filter((point) => point.startsWith(path));

  /** Another cache that has the same in it. */
  const sameIn = (place: string) => {
    for (const name of ['qemu', 'linux-6.12']) symlinkSync(join(cache, name), join(place, name));
    return { env: { ...process.env, OVERLAYFS_VM_CACHE: place } };
  };

  it.each([
    ['no kernel', ['--', 'true'], /--kernel is missing/],
    [
      'a kernel that there is not',
      ['--kernel', '7.0', '--', 'true'],
      /no kernel "7.0": 6.1, 6.12, arm64-6.1, arm64-6.12, host/,
    ],
    ['no command', ['--kernel', '6.12'], /no command/],
    ['an unknown option', ['--kernel', '6.12', '--fast', '--', 'true'], /--fast/],
    ['no number', ['--kernel', '6.12', '--cpus', 'two', '--', 'true'], /--cpus is a whole number/],
    [
      'no seconds',
      ['--kernel', '6.12', '--timeout', '0', '--', 'true'],
      /--timeout is a whole number from 1/,
    ],
    [
      'a directory that there is not',
      ['--kernel', '6.12', '--bind', '/no/such:/mnt', '--', 'true'],
      /there is no \/no\/such/,
    ],
    ['processors for the host', ['--kernel', 'host', '--cpus', '2', '--', 'true'], /host is none/],
  ])('%s', async (_, args, reason) => {
    expect(await run(args)).toMatchObject({ status: 125, out: '', errors: expect.stringMatching(reason) });
  });

  it('no network', async () => {
    const env = { ...process.env, OVERLAYFS_VM_CACHE: folder };
    const outcome = await run(['--kernel', '6.1', '--', 'true'], { env, through: ['unshare', '--net'] });
    expect(outcome).toMatchObject({ status: 125, errors: expect.stringMatching(/cannot fetch .*network/) });
    expect(readdirSync(folder).filter((name) => name.startsWith('qemu'))).toEqual([]);
  });

  it('a signal while it fetches, after which nothing half-fetched is there', async () => {
    const child = start(['--kernel', '6.1', '--prepare'], {
      env: { ...process.env, OVERLAYFS_VM_CACHE: folder },
    });
    await expect.poll(() => readdirSync(folder), { timeout: 60_000 }).toContain('qemu.partial');
    child.kill('SIGINT');
    expect((await once(child, 'close'))[1]).toBe('SIGINT');
    expect(readdirSync(folder).filter((name) => name.endsWith('.partial'))).toEqual([]);
  });

  it('no room for what is fetched', async () => {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=45m', 'small', folder]);
    const env = { ...process.env, OVERLAYFS_VM_CACHE: folder };
    const outcome = await run(['--kernel', '6.12', '--', 'true'], { env });
    expect(outcome).toMatchObject({
      status: 125,
      errors: expect.stringMatching(/[Nn]o space|enough free space/),
    });
    expect(readdirSync(folder).filter((name) => name.startsWith('qemu'))).toEqual([]);
  });

  it("no room for the guest's disk, at first and in the end", async () => {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=100m', 'small', folder]);
    const options = sameIn(folder);
    expect(await run(['--kernel', '6.12', '--', 'true'], options)).toMatchObject({
      status: 125,
      errors: expect.stringMatching(/no room for the guest's disk: .* has \d+ MiB left/),
    });
    execFileSync('mount', ['-o', 'remount,size=1200m', folder]);
    const write = 'dd if=/dev/zero of=/tmp/large bs=1M count=3000; sync; echo written';
    expect(await run(['--kernel', '6.12', '--', 'sh', '-c', write], options)).toMatchObject({
      status: 125,
      errors: expect.stringMatching(/no room for the guest's disk/),
    });
  });

  it('a cache without busybox', async () => {
    execFileSync('cp', ['-al', join(cache, 'qemu'), folder]);
    rmSync(join(folder, 'qemu/bin/busybox'));
    symlinkSync(join(cache, 'linux-6.12'), join(folder, 'linux-6.12'));
    const env = { ...process.env, OVERLAYFS_VM_CACHE: folder };
    expect(await run(['--kernel', '6.12', '--', 'true'], { env })).toMatchObject({
      status: 125,
      errors: expect.stringMatching(/busybox is missing: remove .*qemu/),
    });
  });

  it('a home that cannot be written to: the cache is under /var/tmp, and said to be', async () => {
    const other = `/var/tmp/overlayfs-vm-${process.getuid?.()}`;
    const wasThere = existsSync(other);
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'ro', 'home', folder]);
    const { OVERLAYFS_VM_CACHE: _, XDG_CACHE_HOME: __, ...rest } = process.env;
    const env = { ...rest, HOME: folder };
    const outcome = await run(['--kernel', '6.1', '--prepare'], { env, through: ['unshare', '--net'] });
    expect(outcome.errors).toContain(`using ${other}`);
    if (!wasThere) rmSync(other, { recursive: true });
  });
});

describe('on the host', () => {
  it('is in namespaces of its own, with an empty /tmp and this project, and passes its exit status', async () => {
    const file = `/tmp/overlayfs-vm-test-${mark}`;
    const script = `uname -r; ls -A /tmp | wc -l; touch ${file}; mount -t tmpfs x /mnt; ls package.json; exit 9`;
    const { status, out } = await run(['--kernel', 'host', '--', 'sh', '-c', script]);
    expect([status, out]).toEqual([9, `${release()}\n0\npackage.json\n`]);
    expect(existsSync(file)).toBe(false);
    expect(readFileSync('/proc/self/mountinfo', 'utf8')).not.toMatch(/ \/mnt .* x /);
  });

  it('sees its project where that lies in /tmp', async () => {
    const folder = mkdtempSync('/tmp/overlayfs-vm-test-');
    try {
      writeFileSync(join(folder, 'package.json'), '{}');
      mkdirSync(join(folder, 'deep'));
      const { out } = await run(['--kernel', 'host', '--', 'sh', '-c', 'pwd; ls ..'], {
        cwd: join(folder, 'deep'),
      });
      expect(out).toBe(`${join(folder, 'deep')}\ndeep\npackage.json\n`);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  it('is ended when it takes too long, with all that it has started', async () => {
    const outcome = await run([
      '--kernel',
      'host',
      '--timeout',
      '1',
      '--',
      'sh',
      '-c',
      'setsid sleep 54321 & sleep 54321',
    ]);
    expect(outcome).toMatchObject({ status: 125, errors: expect.stringMatching(/within 1 s/) });
    const sleeping = readdirSync('/proc').filter(
      (pid) => /^\d+$/.test(pid) && commandLine(pid).includes('54321'),
    );
    expect(sleeping).toEqual([]);
  });

  it.each([
    ['no-such-command', 127],
    ['/etc/passwd', 126],
  ])('what cannot be run: %s', async (command, status) => {
    expect((await run(['--kernel', 'host', '--', command])).status).toBe(status);
  });
});

afterAll(() => {
  expect(readdirSync('/tmp').filter((name) => name.includes(mark))).toEqual([]);
});
