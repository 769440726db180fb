// npm run docs:how-it-works: writes docs/how-it-works.md, with what the kernel does to real layers; --print shows it only.
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmdirSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { fileURLToPath } from 'node:url';
import { root } from '../../native/build/run.mjs';
import { chapters } from './chapters.mjs';
import { runChapter } from './scene.mjs';

const page = `${root}docs/how-it-works.md`;
const [mode = ''] = process.argv.slice(2);

if (mode === '--inside') process.stdout.write(await render(process.argv[3]));
else {
  const text = inOwnMounts();
  if (mode === '--print') process.stdout.write(text);
  else writeFileSync(page, text);
}

// Whatever happens in there, the mounts go with the namespace.
function inOwnMounts() {
  const scratch = mkdtempSync(`${tmpdir()}/overlayfs-docs-`);
  try {
    const own = [process.execPath, fileURLToPath(import.meta.url), '--inside', scratch];
    const args = ['--mount', '--propagation', 'private', ...own];
    const { status, stdout } = spawnSync('unshare', args, {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    if (status !== 0) throw new Error(`it ended with ${status}`);
    return stdout;
  } finally {
    rmdirSync(scratch);
  }
}

async function render(scratch) {
  mount(['-t', 'tmpfs', '-o', 'mode=0755', 'docs', scratch]);
  const parts = [];
  for (const [index, chapter] of chapters.entries()) {
    const directory = `${scratch}/${index}`;
    mkdirSync(directory);
    if (chapter.fileSystem === 'xfs') mountXfs(`${scratch}/image`, directory);
    parts.push(await runChapter(chapter, directory));
  }
  return `${parts.join('\n\n')}\n`;
}

function mountXfs(image, directory) {
  const PATH = `${process.env.PATH}:/usr/sbin:/sbin`;
  command('truncate', ['--size', '320M', image]);
  command('mkfs.xfs', ['-q', '-f', image], { env: { ...process.env, PATH } });
  mount(['-o', 'loop', image, directory]);
}

function mount(args) {
  command('mount', args);
}

function command(name, args, options = {}) {
  const { status } = spawnSync(name, args, { stdio: ['ignore', 2, 2], ...options });
  if (status !== 0) throw new Error(`${name} ${args.join(' ')}: ${status}`);
}
