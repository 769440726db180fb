// Container engines: each with a root directory of its own, and a container's life through its own interface.
import { execFile, execFileSync, spawn } from 'node:child_process';
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { imageArchive } from './image.mjs';

const execute = promisify(execFile);
const IMAGE = 'localhost/bench';

/** A directory of the lab. */
function make(lab, name) {
  const path = join(lab, name);
  mkdirSync(path, { recursive: true });
  return path;
}

/** A daemon that ends with us, however we end, and everything that it has started with it. */
function daemon(lab, command, args, env) {
  const log = openSync(join(lab, 'log'), 'a');
  const space = ['--pdeathsig', 'KILL', 'unshare', '--pid', '--fork', '--kill-child', '--mount-proc'];
  const child = spawn('setpriv', [...space, command, ...args], { stdio: ['ignore', log, log], env });
  closeSync(log);
  const ended = new Promise((resolve) => child.on('exit', resolve));
  return async () => {
    child.kill('SIGKILL');
    await ended;
  };
}

/** One request to a daemon; the answer's text. */
function ask(socketPath, method, path, { body, type = 'application/json' } = {}) {
  return new Promise((resolve, reject) => {
    const headers =
      body === undefined ? {} : { 'content-type': type, 'content-length': Buffer.byteLength(body) };
    const asked = request({ socketPath, method, path, headers }, (answer) => {
      const chunks = [];
      answer.on('data', (chunk) => chunks.push(chunk));
      answer.on('error', reject);
      answer.on('end', () => {
        const text = Buffer.concat(chunks).toString();
        if (answer.statusCode < 300) resolve(text);
        else reject(new Error(`${method} ${path}: ${answer.statusCode} ${text}`));
      });
    });
    asked.on('error', reject);
    asked.end(body);
  });
}

/** Waits for a daemon, and does what it needs first; ends it if that fails. */
async function ready(lab, socket, end, prepare = async () => {}) {
  const answers = () =>
    ask(socket, 'GET', '/_ping').then(
      () => true,
      () => false,
    );
  try {
    for (let tries = 0; !(await answers()); tries++) {
      if (tries === 300)
        throw new Error(`it does not start:\n${readFileSync(join(lab, 'log'), 'utf8').slice(-2000)}`);
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    await prepare();
  } catch (error) {
    await end();
    throw error;
  }
}

const docker = {
  name: "dockerd, over its socket: create, mount by asking for the root's status, delete",
  programs: ['/usr/sbin/dockerd', '/usr/sbin/runc'],
  async start(lab, layers) {
    const socket = join(lab, 'docker.sock');
    const end = daemon(lab, 'dockerd', [
      ...['--data-root', make(lab, 'root'), '--exec-root', make(lab, 'exec'), '--pidfile', join(lab, 'pid')],
      ...['--host', `unix://${socket}`, '--storage-driver', 'overlay2'],
      ...['--bridge=none', '--iptables=false', '--ip6tables=false', '--ip-forward=false'],
    ]);
    const archive = { body: imageArchive(IMAGE, layers), type: 'application/x-tar' };
    await ready(lab, socket, end, () => ask(socket, 'POST', '/images/load', archive));
    const body = JSON.stringify({ Image: IMAGE, Cmd: ['/none'], HostConfig: { NetworkMode: 'none' } });
    const run = async () => {
      const { Id } = JSON.parse(await ask(socket, 'POST', '/containers/create', { body }));
      await ask(socket, 'HEAD', `/containers/${Id}/archive?path=/`);
      await ask(socket, 'DELETE', `/containers/${Id}`);
    };
    return { run, end };
  },
};

/** What podman and buildah are told of where to keep everything, and whose image they then have. */
function storage(lab, layers, command, load) {
  const configuration = join(lab, 'containers.conf');
  const engine = [
    'lock_type = "file"',
    'events_logger = "none"',
    'cgroup_manager = "cgroupfs"',
    'runtime = "runc"',
  ];
  writeFileSync(configuration, `[engine]\n${engine.join('\n')}\n`);
  const policy = join(lab, 'policy.json');
  writeFileSync(policy, '{"default":[{"type":"insecureAcceptAnything"}]}');
  const flags = ['--root', make(lab, 'root'), '--runroot', make(lab, 'run'), '--storage-driver', 'overlay'];
  const env = { ...process.env, CONTAINERS_CONF: configuration };
  const archive = join(lab, 'image.tar');
  writeFileSync(archive, imageArchive(IMAGE, layers));
  const whole = [...flags, ...(command === 'podman' ? ['--tmpdir', make(lab, 'tmp')] : [])];
  execFileSync(command, [...whole, ...load(archive, policy)], { env, stdio: ['ignore', 'ignore', 'pipe'] });
  const run = async (...args) => (await execute(command, [...whole, ...args], { env })).stdout.trim();
  return { flags: whole, env, run };
}

const loadByPodman = (archive) => ['load', '--quiet', '--input', archive];

const podman = {
  name: 'podman: create, mount, umount, rm',
  programs: ['/usr/bin/podman', '/usr/sbin/runc'],
  async start(lab, layers) {
    const { run } = storage(lab, layers, 'podman', loadByPodman);
    const life = async () => {
      const id = await run('create', '--network=none', IMAGE, '/none');
      await run('mount', id);
      await run('umount', id);
      await run('rm', id);
    };
    return { run: life, end: async () => {} };
  },
};

const podmanService = {
  name: 'podman system service, over its socket: the same',
  programs: podman.programs,
  async start(lab, layers) {
    const { flags, env } = storage(lab, layers, 'podman', loadByPodman);
    const socket = join(lab, 'podman.sock');
    const service = [...flags, 'system', 'service', '--time=0', `unix://${socket}`];
    const end = daemon(lab, 'podman', service, env);
    await ready(lab, socket, end);
    const all = '/v4.0.0/libpod/containers';
    const body = JSON.stringify({ image: IMAGE, command: ['/none'], netns: { nsmode: 'none' } });
    const run = async () => {
      const { Id } = JSON.parse(await ask(socket, 'POST', `${all}/create`, { body }));
      await ask(socket, 'POST', `${all}/${Id}/mount`);
      await ask(socket, 'POST', `${all}/${Id}/unmount`);
      await ask(socket, 'DELETE', `${all}/${Id}`);
    };
    return { run, end };
  },
};

const buildah = {
  name: 'buildah: from, mount, umount, rm',
  programs: ['/usr/bin/buildah', '/usr/sbin/runc'],
  async start(lab, layers) {
    const { run } = storage(lab, layers, 'buildah', (archive, policy) => [
      ...['pull', '--quiet', '--signature-policy', policy, `docker-archive:${archive}`],
    ]);
    const life = async () => {
      const id = await run('from', '--pull-never', IMAGE);
      await run('mount', id);
      await run('umount', id);
      await run('rm', id);
    };
    return { run: life, end: async () => {} };
  },
};

const all = [docker, podman, podmanService, buildah];

/** What the engines write where they are not told to (a key, a cache) goes with the lab; for as long as this lasts. */
export function shielded(lab) {
  const places = ['/etc', '/var/lib'];
  for (const [index, place] of places.entries()) {
    const [upper, work] = ['upper', 'work'].map((name) => make(lab, `shield${index}/${name}`));
    const options = `lowerdir=${place},upperdir=${upper},workdir=${work}`;
    execFileSync('mount', ['-t', 'overlay', 'shield', '-o', options, place]);
  }
  return () => {
    for (const place of places) execFileSync('umount', ['--lazy', place]);
  };
}

/** Those that are installed; the others are named, once. */
export function engines() {
  const there = ({ programs }) => programs.every((program) => existsSync(program));
  for (const engine of all.filter((one) => !there(one)))
    console.error(
      `${engine.programs.join(' or ')} is not installed: rows beside ${engine.name} are left out.`,
    );
  return all.filter(there);
}
