// The command line from start to mounted, beside `node -e 0`.
// Alone, with `mount -t overlay` through our helper: node bench/cli.mjs [seconds]
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { alone, print } from './alone.mjs';
import { timed } from './contenders.mjs';
import { interleave } from './measure.mjs';

const main = fileURLToPath(new URL('../dist/cli/main.js', import.meta.url));
const run = promisify(execFile);
const node = (...args) => run(process.execPath, args);

function contenders(room) {
  const [lower, upper, work, target] = ['l0', 'u0', 'w0', 'm0'].map((name) => join(room, name));
  const options = `lowerdir=${lower},upperdir=${upper},workdir=${work}`;
  const mounts = (mount) => ({
    async run() {
      const time = await timed(mount);
      await run('umount', ['-i', target]);
      return time;
    },
  });
  return {
    ours: mounts(() => node(main, 'mount', '-l', lower, '-u', upper, '-w', work, target)),
    beside: { run: () => timed(() => node('-e', '0')) },
    helper: mounts(() => node(main, 'mount.overlay', 'overlay', target, '-o', options)),
    mount: mounts(() => run('mount', ['-i', '-t', 'overlay', 'overlay', target, '-o', options])),
  };
}

/** The row of `overlayfs mount`. */
export async function cliRow({ rooms, seconds }) {
  const { ours, beside } = contenders(rooms.make('tmpfs', {}));
  return interleave({ ours, beside }, seconds);
}

await alone(import.meta.url, async ({ rooms, seconds }) => {
  const samples = await interleave(contenders(rooms.make('tmpfs', {})), seconds);
  const { ours, beside, helper, mount } = samples;
  print('overlayfs mount', { ours, 'node -e 0': beside, 'mount(8) without helper': mount });
  print('mount.overlay', { ours: helper, 'node -e 0': beside, 'mount(8) without helper': mount });
});
