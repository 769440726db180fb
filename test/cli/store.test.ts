// `overlayfs store …` as processes: what each command does, what it prints, its JSON and its exit codes.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { expect, it } from 'vitest';
import { describePrivileged } from '../support/needs.ts';
import { afterThisTest, scratchOn } from '../support/scratch.ts';
import { main, overlayfs, type Ran, run } from './run.ts';

const decimal = expect.stringMatching(/^\d+$/);
const done = (stdout: string) => ({ status: 0, stdout, stderr: '' });
const json = ({ stdout }: Ran) => JSON.parse(stdout);

describePrivileged('overlayfs store', () => {
  const scratch = scratchOn();
  const root = () => scratch.path('store');
  const store = (command: string, ...args: string[]) =>
    overlayfs('store', command, '--root', root(), ...args);
  // What is wrong, as --json tells it.
  const failed = (command: string, ...args: string[]) => {
    const { status, stdout, stderr } = store(command, '--json', ...args);
    return { status, stdout, ...(JSON.parse(stderr) as { error: { code: string; path?: string } }).error };
  };
  const made = () => {
    scratch.file('rootfs/etc/motd', 'hello');
    scratch.file('rootfs/etc/hosts', '127.0.0.1 localhost');
    for (const [command, ...args] of [
      ['init'],
      ['create', '--kind', 'image', '--from', scratch.path('rootfs'), 'base'],
      ['create', '--kind', 'container', '--parent', 'base', 'box'],
    ] as const) {
      expect(store(command, ...args)).toMatchObject({ status: 0, stderr: '' });
    }
  };
  const mounted = (id: string) => {
    afterThisTest(() => store('unmount', id));
    return store('mount', id);
  };

  it('init makes a store, once', () => {
    expect(store('init')).toEqual(done(`${root()} is a store, driver overlay2\n`));
    expect(readdirSync(root()).sort()).toEqual(['.overlayfs', 'l']);
    expect(json(store('init', '--json'))).toEqual({ root: root(), driver: 'overlay2' });
    expect(json(store('ls', '--json'))).toEqual([]);
    expect(failed('init', '--driver', 'overlay')).toMatchObject({
      status: 1,
      code: 'ERR_OVERLAY_STORE_ROOT',
    });
  });

  it('makes no store of a directory that was not meant', () => {
    expect(failed('ls')).toMatchObject({ status: 1, code: 'ERR_OVERLAY_STORE_ROOT', path: root() });
    expect(store('create', '--kind', 'image', 'base')).toEqual({
      status: 1,
      stdout: '',
      stderr: [
        'overlayfs store create: cannot create base (ERR_OVERLAY_STORE_ROOT)',
        `  why: ${root()} does not exist`,
        "  fix: Name the storage driver's own directory; `overlayfs store init` makes a store",
        '',
      ].join('\n'),
    });
    expect(existsSync(root())).toBe(false);
    scratch.directory('store');
    expect(failed('create', '--kind', 'image', 'base').code).toBe('ERR_OVERLAY_STORE_ROOT');
    expect(readdirSync(root())).toEqual([]);
    scratch.file('store/letter', 'not a layer');
    expect(failed('init').code).toBe('ERR_OVERLAY_STORE_ROOT');
    expect(failed('create', '--kind', 'image', 'base').code).toBe('ERR_OVERLAY_STORE_ROOT');
    expect(readdirSync(root())).toEqual(['letter']);
  });

  it('create makes layers, and fills them', () => {
    scratch.file('rootfs/etc/motd', 'hello');
    expect(store('init').status).toBe(0);
    const base = ['--kind', 'image', '--from', scratch.path('rootfs'), 'base'];
    expect(store('create', ...base)).toEqual(done('base created and filled\n'));
    expect(readFileSync(`${root()}/base/diff/etc/motd`, 'utf8')).toBe('hello');
    const box = ['--kind', 'container', '--parent', 'base', 'box'];
    expect(json(store('create', '--json', '--durability', 'none', ...box))).toEqual({
      id: 'box',
      parent: 'base',
      kind: 'container',
      readonly: false,
      path: `${root()}/box`,
      own: true,
    });
  });

  it('create that cannot be carried out leaves no layer', () => {
    made();
    expect(failed('create', '--kind', 'image', '--from', '/nowhere', 'other')).toMatchObject({
      status: 1,
      code: 'ERR_OVERLAY_LAYER_NOT_FOUND',
      path: '/nowhere',
    });
    expect(json(store('ls', '--json')).map(({ id }: { id: string }) => id)).toEqual(['base', 'box']);
    expect(failed('create', '--kind', 'image', 'base').code).toBe('ERR_OVERLAY_STORE_LAYER_EXISTS');
    expect(failed('create', '--kind', 'image', '../x').code).toBe('ERR_OVERLAY_STORE_ID');
    expect(failed('create', '--kind', 'image', '--parent', 'no', 'x').code).toBe(
      'ERR_OVERLAY_STORE_LAYER_NOT_FOUND',
    );
    expect(failed('create', '--kind', 'container', 'x').code).toBe('ERR_OVERLAY_STORE_LAYER_NOT_FOUND');
    const kind = store('create', 'x');
    expect({ status: kind.status, stderr: kind.stderr.split('\n')[1] }).toEqual({
      status: 2,
      stderr: "  why: --kind must be one of 'image', 'container' (received undefined)",
    });
  });

  it('ls is a table, and JSON', () => {
    made();
    const { stdout } = store('ls');
    const rows = stdout.trimEnd().split('\n');
    expect(rows.map((row) => row.split(/ {2,}/))).toEqual([
      ['ID', 'PARENT', 'KIND', 'MODE', 'MADE BY'],
      ['base', '-', 'image', 'read-only', 'overlayfs'],
      ['box', 'base', 'container', 'writable', 'overlayfs'],
    ]);
    expect(json(store('ls', '--json'))).toHaveLength(2);
  });

  it('tree shows which layer lies on which', () => {
    made();
    for (const [id, parent] of [
      ['app', 'base'],
      ['tool', 'app'],
    ] as const) {
      expect(store('create', '--kind', 'image', '--parent', parent, id).status).toBe(0);
    }
    const lines = ['base  image', '├─ app  image', '│  └─ tool  image', '└─ box  container, writable', ''];
    expect(store('tree')).toEqual(done(lines.join('\n')));
    expect(store('tree', 'app')).toEqual(done('app  image\n└─ tool  image\n'));
    expect(json(store('tree', '--json', 'app'))).toMatchObject([
      { id: 'app', parent: 'base', children: [{ id: 'tool', children: [] }] },
    ]);
    expect(failed('tree', 'no').code).toBe('ERR_OVERLAY_STORE_LAYER_NOT_FOUND');
  });

  it('tree shows the layers of a damaged store too, each once', () => {
    mkdirSync(root(), { mode: 0o710 });
    mkdirSync(`${root()}/l`);
    const name = (letter: string) => letter.repeat(26);
    const layer = (id: string, letter: string, lower: string) => {
      mkdirSync(`${root()}/${id}/diff`, { recursive: true });
      mkdirSync(`${root()}/${id}/work`);
      writeFileSync(`${root()}/${id}/link`, name(letter));
      writeFileSync(`${root()}/${id}/lower`, `l/${name(lower)}`);
      symlinkSync(`../${id}/diff`, `${root()}/l/${name(letter)}`);
    };
    layer('hen', 'A', 'B');
    layer('egg', 'B', 'A');
    layer('lost', 'C', 'D');
    expect(store('tree')).toEqual(done('lost  unknown, writable\negg  unknown\n└─ hen  unknown\n'));
  });

  it('tree says which parent is missing', () => {
    made();
    rmSync(`${root()}/base`, { recursive: true });
    expect(store('tree')).toEqual(done('box  container, writable, its parent base is missing\n'));
  });

  it('mount leaves the layer mounted, and unmount takes it away', () => {
    made();
    const target = `${root()}/box/merged`;
    expect(mounted('box')).toEqual(done(`${target} mounted by layer-fds\n`));
    expect(readFileSync(`${target}/etc/motd`, 'utf8')).toBe('hello');
    expect(failed('mount', 'box').code).toBe('ERR_OVERLAY_STORE_LAYER_IN_USE');
    expect(failed('rm', 'box').code).toBe('ERR_OVERLAY_STORE_LAYER_IN_USE');
    expect(store('unmount', 'box')).toEqual(done('box unmounted\n'));
    expect(existsSync(target)).toBe(false);
    expect(json(store('unmount', '--json', 'box'))).toEqual({ id: 'box', unmounted: true });
  });

  it('mount takes another target, and says in JSON how it was done', () => {
    made();
    const target = scratch.directory('here');
    afterThisTest(() => store('unmount', 'base'));
    expect(json(store('mount', '--json', '--target', target, 'base'))).toMatchObject({
      id: 'base',
      target,
      mountId: decimal,
      report: { rung: 'layer-fds' },
      plan: { lower: [`${root()}/base/diff`], readonly: true },
    });
    expect(() => writeFileSync(`${target}/new`, '')).toThrow('EROFS');
    expect(store('unmount', 'base').status).toBe(0);
    expect(scratch.mounts()).toEqual([]);
  });

  it('diff tells what a container has changed, and commit makes a layer of it', () => {
    made();
    mounted('box');
    const merged = `${root()}/box/merged`;
    expect(
      run('sh', ['-ec', 'echo more >> etc/motd; rm etc/hosts; echo x > new'], { cwd: merged }).status,
    ).toBe(0);
    expect(failed('commit', 'box', 'next').code).toBe('ERR_OVERLAY_STORE_LAYER_IN_USE');
    expect(store('unmount', 'box').status).toBe(0);
    expect(store('diff', 'box')).toEqual(
      done(['deleted   etc/hosts', 'modified  etc/motd', 'added     new', ''].join('\n')),
    );
    const told = json(store('diff', '--json', 'box'));
    expect(told.find(({ path }: { path: string }) => path === 'etc/motd')).toMatchObject({
      kind: 'modified',
      type: 'file',
      size: '10',
      previousSize: '5',
    });
    expect(store('commit', 'box', 'next')).toEqual(done('box committed as next\n'));
    expect(store('diff', 'next').stdout).toBe(store('diff', 'box').stdout);
    expect(failed('commit', 'box', 'next').code).toBe('ERR_OVERLAY_STORE_LAYER_EXISTS');
    // The whiteout that the kernel has left in the work directory is nothing that a crash has left.
    expect(readdirSync(`${root()}/box/work/work`)).toHaveLength(1);
    expect(store('check')).toEqual(done('nothing to find\n'));
  });

  it('usage measures all layers, or those that are named', () => {
    made();
    const [heads, base] = store('usage')
      .stdout.split('\n')
      .map((line) => line.split(/ {2,}/));
    expect(heads).toEqual(['ID', 'APPARENT', 'ALLOCATED', 'INODES']);
    expect(base).toEqual(['base', '24 B', expect.any(String), '4']);
    expect(json(store('usage', '--json', '--shared', 'base'))).toEqual([
      {
        id: 'base',
        apparent: '24',
        allocated: decimal,
        inodes: '4',
        shared: { hardLinked: '0', reflinked: '0' },
      },
    ]);
    expect(failed('usage', 'no').code).toBe('ERR_OVERLAY_STORE_LAYER_NOT_FOUND');
  });

  it('check fails while an error is there, and mends it', () => {
    made();
    expect(store('check')).toEqual(done('nothing to find\n'));
    writeFileSync(`${root()}/box/lower`, '');
    const found = store('check');
    expect({ status: found.status, stderr: found.stderr }).toEqual({ status: 1, stderr: '' });
    expect(found.stdout).toMatch(/^error: ERR_OVERLAY_STORE_LAYER_DAMAGED\n {2}why: .*\/box\/lower: .*\n/);
    expect(found.stdout).toContain('  fix: `overlayfs store check --repair` mends it\n');
    const mended = store('check', '--repair');
    expect(mended.status).toBe(0);
    expect(mended.stdout).toMatch(/^mended, error: ERR_OVERLAY_STORE_LAYER_DAMAGED\n/);
    expect(json(store('check', '--json'))).toEqual([]);
  });

  it('gc tells what it would remove, and removes it', () => {
    made();
    mkdirSync(`${root()}/.overlayfs/new/half/diff`, { recursive: true });
    const line = 'half-made      .overlayfs/new/half\n';
    expect(store('gc', '--dry-run')).toEqual(done(line));
    expect(existsSync(`${root()}/.overlayfs/new/half`)).toBe(true);
    expect(store('gc')).toEqual(done(line));
    expect(readdirSync(`${root()}/.overlayfs/new`)).toEqual([]);
    expect(json(store('gc', '--json'))).toEqual([]);
  });

  it('rm removes each layer that it can', () => {
    made();
    expect(failed('rm', 'base').code).toBe('ERR_OVERLAY_STORE_LAYER_HAS_CHILDREN');
    const some = store('rm', 'base', 'box');
    expect({
      status: some.status,
      stdout: some.stdout.split('\n').map((line) => line.split(':')[0]),
    }).toEqual({
      status: 1,
      stdout: ['base not removed', 'box removed', ''],
    });
    expect(json(store('rm', '--json', 'base'))).toEqual([{ id: 'base', removed: true }]);
    expect(readdirSync(root()).sort()).toEqual(['.overlayfs', 'l']);
  });

  it('a store that another program has made is only read', () => {
    mkdirSync(`${root()}/l`, { recursive: true, mode: 0o710 });
    mkdirSync(`${root()}/theirs/diff`, { recursive: true });
    writeFileSync(`${root()}/theirs/link`, 'A'.repeat(26));
    symlinkSync('../theirs/diff', `${root()}/l/${'A'.repeat(26)}`);
    expect(store('ls').stdout).toMatch(/^theirs +- +image +read-only +another$/m);
    const { status, stderr } = store('rm', 'theirs');
    expect({ status, fix: stderr.split('\n')[2] }).toEqual({
      status: 1,
      fix: '  fix: Open it with --foreign write, while that program does not run',
    });
    expect(failed('init').code).toBe('ERR_OVERLAY_STORE_ROOT');
    expect(readdirSync(root()).sort()).toEqual(['l', 'theirs']);
  });

  it('progress is told on a terminal alone, and wiped', async () => {
    made();
    // Somebody else is at work on the layer, for longer than a second.
    const holder = spawn('flock', [`${root()}/box`, 'sh', '-c', 'echo held; exec sleep 2'], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    await once(holder.stdout, 'data');
    // script(1) runs its command on a terminal of its own.
    const command = [process.execPath, main, 'store', 'commit', '--root', root(), 'box', 'next'].join(' ');
    const { stdout } = run('script', ['-qec', command, '/dev/null']);
    const [before, first, ...rest] = stdout.split('\r\x1b[K');
    expect({ before, first, last: rest.at(-1) }).toEqual({
      before: '',
      first: 'copying box: 1 s',
      last: 'box committed as next\r\n',
    });
    expect(store('usage').stderr).toBe('');
  });
});
