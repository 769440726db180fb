// One chapter of docs/how-it-works.md: a store with an image and a container, what is done in the container, and what that
// does to the layers.
import { spawnSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { openStore } from '../../dist/store/index.js';
import { listing } from './listing.mjs';

/** Does it, and tells it as Markdown. */
export async function runChapter(chapter, directory) {
  const { title, text, build, prepare = '', steps = [], after = '', tell } = chapter;
  const driver = chapter.driver ?? 'overlay2';
  const told = [title, text.trim()];
  if (steps.length > 0 || tell !== undefined) {
    const store = await openStore(`${directory}/store`, { driver });
    await makeImage(store, `${directory}/content`, build);
    await store.create('container', { kind: 'container', parent: 'app' });
    if (tell !== undefined) told.push(block('text', await tell({ store })));
    if (steps.length > 0) told.push(...(await play(store, prepare, steps, chapter)));
    await store.unmount('container');
    await store.close();
  }
  if (after !== '') told.push(after.trim());
  return told.join('\n\n');
}

// Two layers: `app` on `base`.
async function makeImage(store, content, build) {
  for (const [id, script] of Object.entries(build)) {
    mkdirSync(`${content}/${id}`, { recursive: true });
    shell(script, `${content}/${id}`);
    await store.create(id, { kind: 'image', ...(id === 'app' ? { parent: 'base' } : {}) });
    await store.apply(id, `${content}/${id}`);
  }
}

async function play(store, prepare, steps, { paths }) {
  const overlay = await store.mount('container', { keepOnExit: false });
  shell(prepare, overlay.path());
  const upper = (await store.stack('container')).upper;
  const image = await layersOf(store);
  const before = listing(upper);
  const lines = [];
  for (const step of steps) lines.push(...(await carryOut(step, { store, overlay, upper })));
  const seen = new Map();
  for (const path of paths) seen.set(path, await seenAs(overlay, path));
  const after = listing(upper);
  for (const [id, was] of image) {
    if (JSON.stringify([...listing(was.path)]) !== JSON.stringify([...was.listing])) {
      throw new Error(`${id} has changed`);
    }
  }
  const heads = ['path', ...image.keys(), 'container before', 'container after', 'what the container sees'];
  const rows = paths.map((path) => {
    const layers = [...[...image.values()].map((one) => one.listing), before, after];
    return [`\`${path}\``, ...layers.map((one) => one.get(path) ?? ''), seen.get(path)];
  });
  const untold = [...before.keys(), ...after.keys()].filter((path) => !paths.includes(path));
  if (untold.length > 0) throw new Error(`not told: ${untold}`);
  return [block('text', lines), table([heads, heads.map(() => '---'), ...rows])];
}

const table = (rows) => rows.map((cells) => `| ${cells.join(' | ')} |`).join('\n');

async function layersOf(store) {
  const ids = (await store.chain('container')).slice(1).reverse();
  const { lower } = await store.stack('container');
  const paths = [lower].flat().reverse();
  return new Map(ids.map((id, index) => [id, { path: paths[index], listing: listing(paths[index]) }]));
}

async function seenAs(overlay, path) {
  const { exists, place, merged, type } = await overlay.whichLayer(path);
  if (!exists) return 'nothing';
  const name = ({ layer, index }) => (layer === 'upper' ? 'container' : ['app', 'base'][index]);
  if (type !== 'directory') return `${type} of ${name(place)}`;
  return `directory of ${merged.map(name).join(', ')}`;
}

async function carryOut(step, scene) {
  if (typeof step !== 'string') return [`> ${step.js}`, ...(await step.run(scene))];
  return [`$ ${step}`, ...shell(step, scene.overlay.path())];
}

function shell(script, cwd) {
  const { status, stdout, stderr } = spawnSync('sh', ['-ec', `umask 022\n${script}`], {
    cwd,
    encoding: 'utf8',
  });
  if (status !== 0) throw new Error(`${script}: ${stderr}`);
  return stdout === '' ? [] : stdout.trimEnd().split('\n');
}

export const block = (language, lines) => [`\`\`\`${language}`, ...lines, '```'].join('\n');
