// Where Node's headers are, so that a build depends neither on a download by node-gyp nor on the machine's npm settings.
import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { attempt, root } from './run.mjs';

/** What node-gyp, prebuildify and cmake-js need in their environment. */
export function nativeEnvironment() {
  const prefix = ownPrefix() ?? nodeFromNpm(process.arch, process.versions.node, 'include');
  if (!prefix)
    console.error(
      `No headers for ${process.execPath}, neither beside it nor on npm: leaving them to node-gyp.`,
    );
  return { npm_config_jobs: 'max', ...(prefix && { npm_config_nodedir: prefix }) };
}

function ownPrefix() {
  const prefix = join(process.execPath, '../..');
  return existsSync(join(prefix, 'include/node/node_api.h')) ? prefix : undefined;
}

/** The prefix of a Node for Linux, of which `part` is unpacked: npm carries Node itself as plain packages, headers included. */
export function nodeFromNpm(arch, version, part) {
  const name = `node-linux-${arch}`;
  const cache = join(root, '.build/node');
  const prefix = join(cache, `${name}-${version}-${part}`);
  if (existsSync(prefix)) return prefix;

  mkdirSync(cache, { recursive: true });
  const unpacked = mkdtempSync(join(cache, 'unpack-'));
  const pack = ['pack', `${name}@${version}`, '--silent', '--pack-destination', unpacked];
  const archive = `${name}-${version}.tgz`;
  const untar = ['-xzf', archive, '--strip-components=1', `package/${part}`];
  const found =
    attempt('npm', pack, { stdio: ['ignore', 'ignore', 'inherit'] }) === 0 &&
    attempt('tar', untar, { cwd: unpacked }) === 0;
  rmSync(join(unpacked, archive), { force: true });
  if (found) renameSync(unpacked, prefix);
  else rmSync(unpacked, { recursive: true });
  return found ? prefix : undefined;
}
