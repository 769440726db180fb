#!/usr/bin/env node
// Runs a command on a real kernel: `run.mjs --help`. This outermost process reads the arguments and waits. All that is
// done is done inside a mount and a pid namespace (runner/inside.mjs) whose first process ends when its standard input
// does: however this process ends, the kernel then ends every process and takes away every mount in there.
import { spawn } from 'node:child_process';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { readArguments, usage } from './runner/arguments.mjs';
import { cacheFolder, discardPartial } from './runner/cache.mjs';
import { host } from './runner/kernels.mjs';
import { failed, say } from './runner/say.mjs';

const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'];

let settings;
try {
  settings = readArguments(process.argv.slice(2));
} catch (error) {
  say(`${error.message}\n\n${usage}`);
  process.exit(failed);
}
if (settings.help) {
  console.log(usage);
  process.exit(0);
}

const asRoot = process.getuid() === 0 ? [] : ['--user', '--map-root-user'];
const namespaces = [...asRoot, '--mount', '--pid', '--fork', '--mount-proc'];
const inside = fileURLToPath(new URL('runner/inside.mjs', import.meta.url));
const child = spawn('unshare', [...namespaces, process.execPath, inside, JSON.stringify(settings)], {
  stdio: ['pipe', 'inherit', 'inherit', 'pipe'],
  detached: true, // a terminal's Ctrl-C is for this process alone
});

let received;
for (const signal of signals) {
  process.on(signal, () => {
    received ??= signal;
    child.stdin.end();
  });
}
child.stdin.on('error', () => {}); // it has ended already

const told = text(child.stdio[3]);
child.once('error', (error) => {
  say(`cannot run unshare(1) of util-linux: ${error.message}`);
  process.exit(failed);
});
child.once('close', async () => {
  if (received !== undefined) {
    if (settings.kernel !== host) discardPartial(cacheFolder());
    process.removeAllListeners(received);
    process.kill(process.pid, received);
    return;
  }
  const status = await told;
  if (status === '') say(`could not make namespaces${asRoot.length > 0 ? ': try it as root' : ''}`);
  process.exitCode = status === '' ? failed : Number(status);
});
