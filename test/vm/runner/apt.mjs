// Debian packages by apt, which checks their signatures, without touching this machine's own packages: with lists,
// archives and an empty status file in the cache.
import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { attempt, run, tail } from './command.mjs';
import { RunnerError } from './say.mjs';

const suites = [
  ['debian', 'bookworm'],
  ['debian-security', 'bookworm-security'],
];
const systemKeys = '/usr/share/keyrings/debian-archive-keyring.gpg';

/** The merged /usr, before packages that expect it are unpacked. */
const mergedFolders = ['bin', 'sbin', 'lib', 'lib64'];
const left = ['usr/share/doc', 'usr/share/man', 'usr/share/info', 'usr/share/locale', 'usr/share/iso-codes'];

/** The packages of one architecture. */
export class Apt {
  #mirror = (process.env.OVERLAYFS_VM_MIRROR || 'http://deb.debian.org').replace(/\/+$/, '');
  #folder;
  #options;

  constructor(cache, arch) {
    this.#folder = join(cache, `apt-${arch}`);
    const at = (name) => join(this.#folder, name);
    const settings = {
      'Dir::State': at('state'),
      'Dir::State::lists': at('lists'),
      'Dir::State::status': at('status'),
      'Dir::Cache': at('cache'),
      'Dir::Etc::sourcelist': at('sources.list'),
      'Dir::Etc::sourceparts': '/dev/null',
      'Dir::Etc::preferencesparts': '/dev/null',
      'Dir::Etc::preferences': '/dev/null',
      'APT::Architecture': arch,
      'APT::Architectures::': arch,
      'APT::Sandbox::User': 'root', // the only user there is in our user namespace
      'APT::Update::Error-Mode': 'any',
      'Acquire::Languages': 'none',
      'Acquire::Retries': '2',
      'Acquire::http::Timeout': '30',
    };
    this.#options = Object.entries(settings).flatMap(([name, value]) => ['-o', `${name}=${value}`]);
  }

  /** Reads the mirror's lists. */
  async update() {
    for (const name of ['state', 'lists/partial', 'cache/archives/partial']) {
      mkdirSync(join(this.#folder, name), { recursive: true });
    }
    writeFileSync(join(this.#folder, 'status'), '');
    const keys = await this.#keys();
    const sources = suites.map(
      ([path, suite]) => `deb [signed-by=${keys}] ${this.#mirror}/${path} ${suite} main\n`,
    );
    writeFileSync(join(this.#folder, 'sources.list'), sources.join(''));
    await this.#get('the lists of packages', ['update']);
  }

  /** The newest kernel's own package, for the package that stands for a series of them. */
  async resolve(series) {
    const depends = await run('apt-cache', [...this.#options, 'depends', series], this.#environment());
    const [, name] = /^ +Depends: (linux-image-\S+)$/m.exec(depends) ?? [];
    if (name === undefined) throw new RunnerError(`Debian has no ${series}`);
    return name;
  }

  /** Downloads one package without what it depends on, and unpacks it into the folder. */
  async unpackOne(name, into) {
    await this.#get(name, ['download', name], { cwd: into });
    const [archive] = readdirSync(into).filter((file) => file.endsWith('.deb'));
    await run('dpkg', ['-x', join(into, archive), into]);
    await run('rm', [join(into, archive)]);
  }

  /** Downloads packages with all that they depend on, and unpacks them into the folder as a file system of its own. */
  async unpackAll(names, into) {
    await this.#get(names.join(', '), [
      'install',
      '--download-only',
      '--yes',
      '--no-install-recommends',
      ...names,
    ]);
    for (const name of mergedFolders) mkdirSync(join(into, 'usr', name), { recursive: true });
    await run('ln', ['-s', ...mergedFolders.map((name) => `usr/${name}`), into]);
    const archives = join(this.#folder, 'cache/archives');
    const debs = readdirSync(archives).filter((name) => name.endsWith('.deb'));
    // dpkg -x would put folders in place of the links.
    const tar = `tar -x -C "$0" --keep-directory-symlink --no-same-owner ${left.map((one) => `--exclude=./${one}`).join(' ')}`;
    const unpack = `for deb; do dpkg --fsys-tarfile "$deb" | ${tar} || exit; done`;
    await run('sh', ['-c', unpack, into, ...debs.map((name) => join(archives, name))]);
    await run(
      'rm',
      debs.map((name) => join(archives, name)),
    );
  }

  async #get(what, args, options = {}) {
    const { status, errors } = await attempt('apt-get', ['-qq', ...this.#options, ...args], {
      ...this.#environment(),
      ...options,
    });
    if (status === 0) return;
    throw new RunnerError(
      `cannot fetch ${what} from ${this.#mirror} (is there a network, and room on the disk? OVERLAYFS_VM_MIRROR names another mirror):\n${tail(errors || String(status), 5)}`,
    );
  }

  #environment() {
    return { env: { ...process.env, LC_ALL: 'C', DEBIAN_FRONTEND: 'noninteractive' } };
  }

  /** Debian's keys: this machine's, else (on Ubuntu) out of the package that its own apt fetches. */
  async #keys() {
    if (existsSync(systemKeys)) return systemKeys;
    const folder = join(this.#folder, 'keys');
    const keys = join(folder, systemKeys);
    if (existsSync(keys)) return keys;
    mkdirSync(folder, { recursive: true });
    const { status, errors } = await attempt(
      'apt-get',
      ['-qq', '-o', 'APT::Sandbox::User=root', 'download', 'debian-archive-keyring'],
      { ...this.#environment(), cwd: folder },
    );
    if (status !== 0) {
      throw new RunnerError(
        `there is no ${systemKeys}; install debian-archive-keyring: ${tail(errors || String(status), 3)}`,
      );
    }
    const [archive] = readdirSync(folder).filter((file) => file.endsWith('.deb'));
    await run('dpkg', ['-x', join(folder, archive), folder]);
    return keys;
  }
}
