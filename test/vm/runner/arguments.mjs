// What the command line says.
import { existsSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { host, kernelNames } from './kernels.mjs';

export const usage = `usage: overlayfs-vm --kernel ${kernelNames.join('|')} [options] -- COMMAND [ARGUMENT…]

Runs COMMAND as root on a real kernel, in the current directory, and ends with its exit status.

  --kernel NAME     6.1 and 6.12: Debian's kernels in a VM on this machine's tree; arm64-…: on a Debian tree of their
                    own with Node.js; host: no VM, private mount and pid namespaces
  --cpus N          processors of the VM (2)
  --memory MiB      its memory (2048)
  --timeout S       seconds that the command may take (1800)
  --accel tcg|kvm   tcg emulates and works anywhere; kvm is fast where it works (tcg)
  --env NAME[=VALUE]  sets a variable in the VM; always there: CI, FORCE_COLOR, LANG, NO_COLOR, TERM, OVERLAYFS_…
  --bind FROM:TO    shows a directory of this machine at another path in the VM, read-only
  --prepare         fetches what this kernel needs, and runs nothing

The VM sees this machine's files read-only. Writes to the project (the nearest directory with a package.json) are thrown
away; /tmp is a fresh ext4 file system. The command's standard input is empty.
Exit status: the command's; 125 if it was not run to its end: a wrong call, no network, a panic, a time-out.
What is fetched is kept in $OVERLAYFS_VM_CACHE, else in ~/.cache/overlayfs-vm: remove it to fetch anew. It comes from
http://deb.debian.org, or from the mirror $OVERLAYFS_VM_MIRROR.`;

const options = {
  kernel: { type: 'string' },
  cpus: { type: 'string' },
  memory: { type: 'string' },
  timeout: { type: 'string' },
  accel: { type: 'string' },
  env: { type: 'string', multiple: true, default: [] },
  bind: { type: 'string', multiple: true, default: [] },
  prepare: { type: 'boolean', default: false },
  help: { type: 'boolean', short: 'h', default: false },
};

const inherited = /^(CI|FORCE_COLOR|LANG|NO_COLOR|TERM|OVERLAYFS_.*)$/;

/** The settings; throws an Error whose message says what is wrong with them. */
export function readArguments(args) {
  const separator = args.indexOf('--');
  const before = separator === -1 ? args : args.slice(0, separator);
  const command = separator === -1 ? [] : args.slice(separator + 1);
  const { values } = parseArgs({ args: before, options, strict: true, allowPositionals: false });
  const { kernel, accel = 'tcg', prepare, help } = values;
  if (help) return { help };
  if (kernel === undefined) throw new Error('--kernel is missing');
  if (!kernelNames.includes(kernel)) {
    throw new Error(`there is no kernel ${JSON.stringify(kernel)}: ${kernelNames.join(', ')}`);
  }
  if (!['tcg', 'kvm'].includes(accel)) throw new Error(`--accel is tcg or kvm, not ${JSON.stringify(accel)}`);
  if (kernel === host) refuseOnHost(values);
  if (command.length === 0 && !prepare) throw new Error('no command: write it behind --');
  return {
    kernel,
    accel,
    prepare,
    command,
    cpus: whole('cpus', values.cpus ?? '2', 1, 255),
    memory: whole('memory', values.memory ?? '2048', 256, 1 << 20),
    timeout: whole('timeout', values.timeout ?? '1800', 1, 1e6),
    environment: environment(values.env),
    binds: values.bind.map(readBind),
    directory: process.cwd(),
    project: projectOf(process.cwd()),
  };
}

function refuseOnHost(values) {
  for (const name of ['cpus', 'memory', 'accel']) {
    if (values[name] !== undefined) throw new Error(`--${name} is for a VM, and ${host} is none`);
  }
  if (values.bind.length > 0) throw new Error(`--bind is for a VM, and ${host} is none`);
}

function whole(name, text, least, most) {
  const number = /^\d+$/.test(text) ? Number(text) : Number.NaN;
  if (number >= least && number <= most) return number;
  throw new Error(`--${name} is a whole number from ${least} to ${most}, not ${JSON.stringify(text)}`);
}

function environment(given) {
  const variables = Object.fromEntries(Object.entries(process.env).filter(([name]) => inherited.test(name)));
  for (const one of given) {
    const [, name, , value] = /^([A-Za-z_]\w*)(=(.*))?$/s.exec(one) ?? [];
    if (name === undefined) throw new Error(`--env is NAME or NAME=VALUE, not ${JSON.stringify(one)}`);
    variables[name] = value ?? process.env[name] ?? '';
  }
  return variables;
}

function readBind(text) {
  const [from, to, ...more] = text.split(':');
  if (!from || !to || more.length > 0) throw new Error(`--bind is FROM:TO, not ${JSON.stringify(text)}`);
  if (!existsSync(from)) throw new Error(`--bind: there is no ${from}`);
  return { from: resolve(from), to: resolve(to) };
}

function projectOf(directory) {
  for (let one = directory; one !== '/'; one = dirname(one)) {
    if (existsSync(join(one, 'package.json'))) return one;
  }
  return directory;
}
