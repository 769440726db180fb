// What the guest is given to start with: busybox, the modules by which it sees its share, and what it is to run.
import { readFileSync } from 'node:fs';
import { basename } from 'node:path';
import { archive } from './initrd.mjs';

const foreignPath = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

/** The initial file system. */
export function initrd(settings, { busybox, modules, tree }) {
  const foreign = tree !== undefined;
  const texts = {
    settings: [`project=${quoted(settings.project)}`, `foreign=${foreign ? 1 : ''}`],
    job: job(settings, foreign),
    binds: settings.binds.map(({ to }) => to),
    'modules/order': modules.map((file) => basename(file)),
  };
  return archive({
    init: { content: readFileSync(new URL('init.sh', import.meta.url)), mode: 0o755 },
    'bin/busybox': { content: readFileSync(busybox), mode: 0o755 },
    ...Object.fromEntries(
      modules.map((file) => [`modules/${basename(file)}`, { content: readFileSync(file) }]),
    ),
    ...Object.fromEntries(
      Object.entries(texts).map(([name, lines]) => [
        name,
        { content: Buffer.from(lines.map((line) => `${line}\n`).join('')) },
      ]),
    ),
  });
}

function job({ command, directory, environment, kernel }, foreign) {
  const variables = {
    PATH: foreign ? foreignPath : process.env.PATH,
    HOME: '/run/home', // root's own may be read only
    TMPDIR: '/tmp',
    npm_config_update_notifier: 'false', // there is no network
    ...environment,
    OVERLAYFS_VM: kernel,
  };
  return [
    ...Object.entries(variables).map(([name, value]) => `export ${name}=${quoted(value)}`),
    `cd ${quoted(directory)} || exit 126`,
    'ulimit -S -n 1024',
    `exec ${command.map(quoted).join(' ')}`,
  ];
}

const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;
