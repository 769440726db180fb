// The tools: each with an overlay that it has made itself, and its answer to what has changed in there.
import { execFileSync, spawn } from 'node:child_process';
import { closeSync, existsSync, mkdirSync, openSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { changes } from '../../dist/index.js';
import { answer } from './relation.mjs';

/** Runs a program; its output in latin1, so that no byte is lost. What the tools say meanwhile goes to `log`. */
function runner(log) {
  return (command, args, options = {}) =>
    execFileSync(command, args, {
      encoding: 'latin1',
      maxBuffer: 1 << 30,
      stdio: ['ignore', 'pipe', log],
      ...options,
      env: { ...process.env, LC_ALL: 'C', ...options.env },
    }).trimEnd();
}

async function until(what, isThere) {
  for (let tries = 0; !isThere(); tries++) {
    if (tries === 300) throw new Error(`${what} does not start`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

const pathOf = (bytes) => Buffer.from(bytes).toString('latin1');

async function ours({ lower, upper, work }, options) {
  const told = answer();
  for await (const change of changes(
    { lower, upper, work, redirectDir: 'on' },
    { expand: true, ...options },
  )) {
    const path = pathOf(change.pathBytes);
    const before = change.fromBytes === undefined ? path : pathOf(change.fromBytes);
    if (change.kind === 'deleted') told.deleted.add(path);
    else if (change.kind === 'added') told.added.add(path);
    else told.modified.add(path);
    if (change.kind === 'renamed') told.renamed.push([before, path]);
  }
  return told;
}

/** `C /path`, `A /path`, `D /path` */
function readLetters(text) {
  const told = answer();
  const sets = { A: told.added, C: told.modified, D: told.deleted };
  for (const line of text.split('\n')) sets[line[0]]?.add(line.slice(3));
  return told;
}

/** rsync(1), "--itemize-changes" */
function readItems(text) {
  const told = answer();
  for (const line of text.split('\n')) {
    const item = line.slice(0, 11);
    const shown = line.slice(12).replace(item[0] === 'h' ? / => .*/ : item[1] === 'L' ? / -> .*/ : /\/$/, '');
    const path = shown.replace(/\\#(\d{3})/g, (_, octal) => String.fromCharCode(Number.parseInt(octal, 8)));
    if (item.startsWith('*deleting')) told.deleted.add(path);
    else if (item.includes('+++')) told.added.add(path);
    else if (path !== '') told.modified.add(path);
  }
  return told;
}

/** diff(1), "--brief" */
function readBrief(text, lower, merged) {
  const told = answer();
  for (const line of text.split('\n')) {
    const [, folder, name] = /^Only in (.*?): (.*)$/.exec(line) ?? [];
    const whole = `${folder}/${name}`;
    if (name === undefined) {
      const [, path] = line.match(new RegExp(`${lower}/(.*?) (?:and|is a|has)`)) ?? [];
      if (path !== undefined) told.modified.add(path);
    } else if (whole.startsWith(`${merged}/`)) told.added.add(whole.slice(merged.length + 1));
    else told.deleted.add(whole.slice(lower.length + 1));
  }
  return told;
}

/** The entries of a layer archive: whiteouts are `.wh.NAME`; what was there before has been changed. */
function readLayer(text, before) {
  const told = answer();
  for (const entry of JSON.parse(text)) {
    const path = entry.replace(/\/$/, '');
    const [, folder = '', name] = /^(.*\/)?\.wh\.(.*)$/.exec(path) ?? [];
    if (name === '.wh..opq') {
      for (const old of Object.keys(before)) if (old.startsWith(folder)) told.deleted.add(old);
    } else if (name !== undefined) told.deleted.add(`${folder}${name}`);
    else (before[path] === undefined ? told.added : told.modified).add(path);
  }
  return told;
}

const listLayer =
  'import json, sys, tarfile; print(json.dumps([name.encode("utf-8", "surrogateescape").decode("latin1") for name in tarfile.open(sys.argv[1]).getnames()]))';

/** Each makes an image of what `fill` puts into a directory, mounts overlays over it, and can be asked about those. */
export function tools(lab, logFile) {
  const log = openSync(logFile, 'a');
  const run = runner(log);
  const make = (...names) => {
    const path = join(lab, ...names);
    mkdirSync(path, { recursive: true });
    return path;
  };
  const started = [];
  const start = (command, args) => {
    const child = spawn(command, args, { stdio: ['ignore', log, log] });
    started.push(child);
  };
  const archive = (fill) => {
    const tree = make('image');
    fill(tree);
    const tar = join(lab, 'image.tar');
    run('tar', ['--numeric-owner', '--xattrs', '--format=posix', '-C', tree, '-cf', tar, '.']);
    run('rm', ['-rf', '--one-file-system', tree]);
    return tar;
  };
  const withShell = (fill) => (tree) => {
    fill(tree);
    run('cp', ['/bin/busybox', join(tree, 'busybox')]);
  };

  let mounts = 0;
  const mounted = {
    image: (fill) => {
      const lower = make(`lower${mounts++}`);
      fill(lower);
      return lower;
    },
    mount: (lower) => {
      const room = `ours${mounts++}`;
      const [upper, work, merged] = ['upper', 'work', 'merged'].map((name) => make(room, name));
      const options = `lowerdir=${lower},upperdir=${upper},workdir=${work},redirect_dir=on`;
      run('mount', ['-t', 'overlay', 'peers', '-o', options, merged]);
      return { merged, layers: { lower, upper, work, merged } };
    },
    ask: {
      'changes()': ({ layers }) => ours(layers, {}),
      "changes(), compare: 'content'": ({ layers }) => ours(layers, { compare: 'content' }),
      'rsync -anAXH --delete': ({ layers: { lower, merged } }) =>
        readItems(run('rsync', ['-anAXHi', '--delete', `${merged}/`, `${lower}/`])),
      'diff -rq': ({ layers: { lower, merged } }) => {
        let text = '';
        try {
          text = run('diff', ['-rq', '--no-dereference', lower, merged]);
        } catch (error) {
          if (error.status !== 1) throw error;
          text = error.stdout;
        }
        return readBrief(text, lower, merged);
      },
    },
    end: ({ merged }) => run('umount', [merged]),
  };

  const podmanFlags = ['--root', make('podman', 'root'), '--runroot', make('podman', 'run')].concat(
    ...['--storage-driver', 'overlay', '--tmpdir', make('podman', 'tmp'), '--cgroup-manager', 'cgroupfs'],
  );
  const podman = (...args) => run('podman', [...podmanFlags, ...args]);
  const podmanTool = {
    image: (fill) => podman('import', '-q', archive(withShell(fill))),
    mount: (image) => {
      const id = podman('create', '--network=none', image, '/busybox');
      return { merged: podman('mount', id), id };
    },
    ask: { 'podman diff': ({ id }) => readLetters(podman('diff', id)) },
    end: ({ id }) => podman('rm', '-f', id),
  };

  const socket = join(lab, 'docker.sock');
  const docker = (...args) => run('/usr/bin/docker', ['-H', `unix://${socket}`, ...args]);
  const dockerTool = {
    image: async (fill) => {
      if (!existsSync(socket)) {
        const flags = [
          '--data-root',
          make('docker', 'root'),
          '--exec-root',
          make('docker', 'exec'),
          '-H',
          `unix://${socket}`,
        ];
        const quiet = ['--bridge=none', '--iptables=false', '--ip6tables=false', '--ip-forward=false'];
        start('dockerd', [
          ...flags,
          '--pidfile',
          join(lab, 'docker.pid'),
          ...quiet,
          '--storage-driver=overlay2',
        ]);
        await until('dockerd', () => existsSync(socket));
      }
      return docker('import', archive(withShell(fill)));
    },
    mount: (image) => {
      const id = docker('run', '-d', '--pull=never', '--network=none', image, '/busybox', 'sleep', '3600');
      return { merged: docker('inspect', '-f', '{{.GraphDriver.Data.MergedDir}}', id), id };
    },
    ask: { 'docker diff': ({ id }) => readLetters(docker('diff', id)) },
    end: ({ id }) => docker('rm', '-f', id),
  };

  const address = join(lab, 'containerd.sock');
  const ctr = (...args) => run('ctr', ['-a', address, ...args]);
  let snapshots = 0;
  const ctrTool = {
    image: async (fill) => {
      if (!existsSync(address)) {
        start('containerd', ['-a', address, '--root', make('ctr', 'root'), '--state', make('ctr', 'state')]);
        await until('containerd', () => existsSync(address));
      }
      const [base, lower] = [`base${snapshots}`, `lower${snapshots++}`];
      const merged = make('ctr', base);
      run('sh', ['-c', ctr('snapshots', 'prepare', '--target', merged, base)]);
      fill(merged);
      run('umount', [merged]);
      ctr('snapshots', 'commit', lower, base);
      return lower;
    },
    mount: (lower) => {
      const top = `top${snapshots++}`;
      const merged = make('ctr', top);
      run('sh', ['-c', ctr('snapshots', 'prepare', '--target', merged, top, lower)]);
      return { merged, top };
    },
    ask: {
      'ctr snapshots diff': ({ top, before }) => {
        const tar = join(lab, `${top}.tar`);
        const to = openSync(tar, 'w');
        const args = [
          '-a',
          address,
          'snapshots',
          'diff',
          '--media-type',
          'application/vnd.oci.image.layer.v1.tar',
          top,
        ];
        execFileSync('ctr', args, { stdio: ['ignore', to, log] });
        closeSync(to);
        return readLayer(run('python3', ['-c', listLayer, tar]), before);
      },
    },
    end: ({ merged }) => run('umount', [merged]),
  };

  return {
    each: [mounted, podmanTool, dockerTool, ctrTool],
    run,
    said: () => readFileSync(logFile, 'latin1'),
    end: () => {
      for (const child of started) child.kill();
    },
  };
}
