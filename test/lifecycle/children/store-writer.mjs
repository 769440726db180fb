// Changes a store again and again, and says what has been acknowledged: `+id`, and `-id` after `?id`. Arguments: the module
// of the store, its root, its driver and durability, and a directory of its own.
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const [library, root, driver, durability, own] = process.argv.slice(2);
const { openStore } = await import(library);
const store = await openStore(root, { driver, durability });
mkdirSync(own, { recursive: true });
const say = (line) => process.stdout.write(`${line}\n`);
process.stdin.on('end', () => process.exit()).resume();

const KEPT = 3;
for (let count = 0; ; count++) {
  const names = (at) => ['image', 'box', 'saved'].map((kind) => `${kind}-${process.pid}-${at}`);
  const [image, box, saved] = names(count);
  writeFileSync(join(own, 'file'), `content of ${image}`);
  await store.create(image, { kind: 'image' });
  await store.apply(image, own);
  say(`+${image}`);
  await store.create(box, { kind: 'container', parent: image });
  say(`+${box}`);
  const mounted = await store.mount(box, { keepOnExit: false });
  writeFileSync(mounted.path('file'), `content of ${saved}`);
  await mounted.unmount();
  await store.commit(box, { id: saved });
  say(`+${saved}`);
  if (count < KEPT) continue;
  for (const id of names(count - KEPT).reverse()) {
    say(`?${id}`);
    await store.remove(id);
    say(`-${id}`);
  }
}
