// A user's first program. tarball.test.ts runs it where only the packed tarball is installed: argv[2] is an empty tmpfs.
// Prints what happened as JSON.
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { mountOverlay } from 'overlayfs';
import { openStore } from 'overlayfs/store';

const [lower, upper, work, target] = ['lower', 'upper', 'work', 'target'].map((name) => {
  const directory = join(process.argv[2], name);
  mkdirSync(directory);
  return directory;
});
writeFileSync(join(lower, 'below'), 'from the lower');

const overlay = await mountOverlay({ lower, upper, work, target });
writeFileSync(overlay.path('above'), 'through the overlay');
const merged = readdirSync(target).sort();
await overlay.unmount();

const maps = readFileSync('/proc/self/maps', 'utf8');
console.log(
  JSON.stringify({
    merged,
    upper: readdirSync(upper),
    stored: await stored(join(process.argv[2], 'overlay2')),
    afterwards: readdirSync(target),
    addon: maps.match(/prebuilds\/\S+\.node|build\/\S+\.node/)?.[0],
    rung: overlay.report.rung,
    fallbacks: overlay.report.fallbacks.map(({ rung }) => rung),
    newMountApiOnly: await outcome({ lower, upper, work, target, mountApi: 'fsconfig' }),
    detached: await outcome({ lower, upper, work }),
  }),
);

async function outcome(options) {
  try {
    const again = await mountOverlay(options);
    await again.unmount();
    return 'mounted';
  } catch (error) {
    return error.code;
  }
}

async function stored(root) {
  const store = await openStore(root, { driver: 'overlay2' });
  await store.create('base', { kind: 'image' });
  await store.create('box', { kind: 'container', parent: 'base' });
  const chain = await store.chain('box');
  await store.close();
  return chain;
}
