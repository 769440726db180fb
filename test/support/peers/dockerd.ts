/** Docker's daemon on a data root of the test's own, without networks. */
import { execFileSync, spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import type { StoreDriver } from '../../../lib/store/index.ts';
import type { Scratch } from '../scratch.ts';
import type { Enclosure } from './enclosure.ts';

export interface Dockerd extends AsyncDisposable {
  /** The client: what it prints, as latin1, the last newline cut off. */
  docker(...args: readonly string[]): string;
  /** Starts a container that lives until it is killed. */
  runDetached(name: string, image: string): void;
}

/** Whether the daemon that is installed, if one is, still has the legacy overlay driver: it went with version 24. */
export function hasLegacyDriver(): boolean {
  const { stdout } = spawnSync('dockerd', ['--version'], { encoding: 'utf8' });
  const major = /^Docker version (\d+)\./.exec(stdout ?? '')?.[1];
  return major === undefined || Number(major) < 24;
}

/** Starts it; its data root is `docker` in the scratch directory. */
export async function startDockerd(
  enclosure: Enclosure,
  scratch: Scratch,
  driver: StoreDriver,
): Promise<Dockerd> {
  const socket = scratch.path('docker.sock');
  // There is no flag for where it keeps its key.
  const configuration = JSON.stringify({ 'deprecated-key-path': scratch.path('docker-key.json') });
  writeFileSync(scratch.path('daemon.json'), configuration);
  const paths = {
    'config-file': scratch.path('daemon.json'),
    'data-root': scratch.directory('docker'),
    'exec-root': scratch.directory('docker-exec'),
    pidfile: scratch.path('docker.pid'),
    host: `unix://${socket}`,
  };
  const settings = {
    ...paths,
    'storage-driver': driver,
    'exec-opt': 'native.cgroupdriver=cgroupfs',
    'cgroup-parent': enclosure.cgroup,
    'shutdown-timeout': '1',
    'log-level': 'warn',
    bridge: 'none',
  };
  const off = ['iptables', 'ip6tables', 'ip-forward', 'ip-masq', 'userland-proxy'];
  const stop = await enclosure.start(
    'dockerd',
    [
      ...Object.entries(settings).map(([name, value]) => `--${name}=${value}`),
      ...off.map((name) => `--${name}=false`),
    ],
    socket,
  );
  // Another client may stand before Debian's.
  const docker = (...args: readonly string[]): string =>
    execFileSync('/usr/bin/docker', args, {
      encoding: 'latin1',
      stdio: ['ignore', 'pipe', 'pipe'],
      env: {
        ...process.env,
        DOCKER_HOST: paths.host,
        DOCKER_CONFIG: scratch.directory('docker-client'),
        DOCKER_BUILDKIT: '1',
      },
    }).trimEnd();
  return {
    docker,
    runDetached: (name, image) => {
      const how = ['--detach', '--pull=never', '--network=none', '--name', name];
      docker('run', ...how, image, '/bin/sleep', '3600');
    },
    [Symbol.asyncDispose]: stop,
  };
}
