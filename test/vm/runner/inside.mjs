// The first process of the namespaces. When its standard input ends (run.mjs has ended it, or has been killed) so does
// this process, and the kernel clears the namespaces away. Tells run.mjs the exit status through descriptor 3.
import { writeSync } from 'node:fs';
import { runInVm } from './in-vm.mjs';
import { host } from './kernels.mjs';
import { runOnHost } from './on-host.mjs';
import { failed, RunnerError, say } from './say.mjs';

process.stdin.on('close', () => process.exit(failed)).resume();
// Who read our output has gone: nobody waits for the rest.
process.stdout.on('error', () => process.exit(failed));

process.env.PATH = `${process.env.PATH ?? ''}:/usr/sbin:/sbin`; // mount(8)'s helpers, chroot(8)
const settings = JSON.parse(process.argv[2]);
let status = failed;
try {
  status = await (settings.kernel === host ? runOnHost(settings) : runInVm(settings));
} catch (error) {
  say(error instanceof RunnerError ? error.message : error.stack);
}
writeSync(3, String(status));
process.exit(status);
