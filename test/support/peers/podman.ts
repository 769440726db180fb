/** podman on a graph root of the test's own, without networks. */
import { writeFileSync } from 'node:fs';
import type { Scratch } from '../scratch.ts';
import type { Enclosure } from './enclosure.ts';

/** What it prints, as latin1, the last newline cut off. */
export type Podman = (...args: readonly string[]) => string;

/** Where podman keeps what is its own, and where else it looks for images. */
export interface PodmanRoots {
  readonly graphRoot: string;
  readonly imageStores?: readonly string[];
}

/** Sets podman up for these roots. */
export function podmanIn(
  enclosure: Enclosure,
  scratch: Scratch,
  { graphRoot, imageStores = [] }: PodmanRoots,
): Podman {
  const storage = {
    driver: 'overlay',
    graphroot: graphRoot,
    runroot: scratch.directory('podman-run'),
  };
  const engine = {
    runtime: 'runc',
    cgroup_manager: 'cgroupfs',
    events_logger: 'none',
    tmp_dir: scratch.directory('podman-tmp'),
  };
  // Its own defaults may lie above what a container host without CAP_SYS_RESOURCE allows.
  const containers = { default_ulimits: ['nofile=1024:4096', 'nproc=4096:4096'] };
  const files = {
    CONTAINERS_STORAGE_CONF: toml({
      storage,
      'storage.options': { additionalimagestores: imageStores },
    }),
    CONTAINERS_CONF: toml({ engine, containers }),
  };
  const environment = Object.entries(files).map(([name, content]) => {
    const path = scratch.path(name.toLowerCase());
    writeFileSync(path, content);
    return [name, path] as const;
  });
  return (...args) => enclosure.run('podman', args, Object.fromEntries(environment));
}

/** How a container is started. */
export const podmanRun = ({ cgroup }: Enclosure): readonly string[] => [
  'run',
  '--pull=never',
  '--network=none',
  `--cgroup-parent=${cgroup}`,
];

// Strings and arrays of them are written in TOML as in JSON.
function toml(tables: Readonly<Record<string, object>>): string {
  return Object.entries(tables)
    .map(([name, table]) =>
      [`[${name}]`, ...Object.entries(table).map(([key, value]) => `${key} = ${JSON.stringify(value)}`)].join(
        '\n',
      ),
    )
    .join('\n\n');
}
