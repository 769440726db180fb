// What each kernel of the smoke test is asked: load the addon, one mount, one whiteout, one detached view or its error.
// Speaks to dist/ and the addon that users get. Prints one line of JSON.
import { lstatSync, mkdirSync, mkdtempSync, readFileSync, rmSync, unlinkSync, writeFileSync } from 'node:fs';
import { release } from 'node:os';
import { mountOverlay, OverlayError } from '../../dist/index.js';

const root = mkdtempSync('/tmp/smoke-');
const [lower, second, upper, work, target] = ['lower', 'second', 'upper', 'work', 'merged'].map((name) => {
  mkdirSync(`${root}/${name}`);
  return `${root}/${name}`;
});
writeFileSync(`${lower}/gone`, '');
writeFileSync(`${lower}/hello`, 'from the lower');

const overlay = await mountOverlay({ lower, upper, work, target });
unlinkSync(`${target}/gone`);
const whiteout = lstatSync(`${upper}/gone`);
const read = readFileSync(`${target}/hello`, 'utf8');
await overlay.unmount();

const detached = await mountOverlay({
  lower: Array(30)
    .fill(0)
    .map((_, i) => several(i)),
}).then(
  async (view) => {
    const shown = readFileSync(view.path('hello'), 'utf8');
    await view.unmount();
    return shown;
  },
  (error) => (error instanceof OverlayError ? error.code : String(error)),
);
rmSync(root, { recursive: true });

console.log(
  JSON.stringify({
    release: release(),
    arch: process.arch,
    node: process.versions.node,
    rung: overlay.report.rung,
    read,
    whiteout: whiteout.isCharacterDevice() && whiteout.rdev === 0,
    detached,
  }),
);

// Thirty lowers are more than 255 bytes can name: before Linux 6.7 there is no such view.
function several(i) {
  if (i === 0) return lower;
  mkdirSync(`${second}/${i}`);
  return `${second}/${i}`;
}
