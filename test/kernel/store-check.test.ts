/** What can be wrong in a store of overlay2 layers: each found, and mended where that loses nothing. */
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { mountOverlay } from '../../lib/index.ts';
import type { LayerStore, StoreFinding } from '../../lib/store/index.ts';
import { waitingShell } from '../support/child.ts';
import { describePrivileged } from '../support/needs.ts';
import { afterThisTest, scratchOn } from '../support/scratch.ts';
import { opened, threeLayers } from '../support/store.ts';

/** What was done to the store, and whether that can be mended. */
interface Damage {
  readonly name: string;
  readonly cause: (at: (...names: string[]) => string, link: (id: string) => string) => unknown;
  /** Of the finding: below the root. */
  readonly path: RegExp;
  readonly severity: StoreFinding['severity'];
  readonly mended: boolean;
}

const damages: readonly Damage[] = [
  {
    name: 'an empty `link`',
    cause: (at) => writeFileSync(at('next/link'), ''),
    path: /next\/link$/,
    severity: 'error',
    mended: true,
  },
  {
    name: 'a missing `link`',
    cause: (at) => rmSync(at('next/link')),
    path: /next\/link$/,
    severity: 'error',
    mended: true,
  },
  {
    name: 'a symbolic link for `link`',
    cause: (at) => {
      rmSync(at('next/link'));
      symlinkSync('/etc/passwd', at('next/link'));
    },
    path: /next\/link$/,
    severity: 'error',
    mended: true,
  },
  {
    name: 'an empty `lower`',
    cause: (at) => writeFileSync(at('box/lower'), ''),
    path: /box\/lower$/,
    severity: 'error',
    mended: true,
  },
  {
    name: 'a missing `lower`',
    cause: (at) => rmSync(at('box/lower')),
    path: /box\/lower$/,
    severity: 'error',
    mended: true,
  },
  {
    name: 'a `lower` that leads outside',
    cause: (at) => writeFileSync(at('box/lower'), 'l/../../etc'),
    path: /box\/lower$/,
    severity: 'error',
    mended: true,
  },
  {
    name: 'a `lower` that names the layer itself',
    cause: (at, link) => writeFileSync(at('box/lower'), `l/${link('box')}:l/${link('next')}`),
    path: /box\/lower$/,
    severity: 'error',
    mended: true,
  },
  {
    name: 'a missing link in `l`',
    cause: (at, link) => rmSync(at('l', link('base'))),
    path: /\/l\/[A-Z2-7]{26}$/,
    severity: 'warning',
    mended: true,
  },
  {
    name: 'a link in `l` that leads elsewhere',
    cause: (at, link) => {
      rmSync(at('l', link('base')));
      symlinkSync('/etc', at('l', link('base')));
    },
    path: /\/l\/[A-Z2-7]{26}$/,
    severity: 'error',
    mended: true,
  },
  {
    name: 'a dangling link in `l`',
    cause: (at) => symlinkSync('../gone/diff', at('l', 'A'.repeat(26))),
    path: /\/l\/A{26}$/,
    severity: 'warning',
    mended: true,
  },
  {
    name: 'a second link in `l` to a layer that is called something else',
    cause: (at) => symlinkSync('../base/diff', at('l', 'A'.repeat(26))),
    path: /\/l\/A{26}$/,
    severity: 'warning',
    mended: true,
  },
  {
    name: 'no `l` at all',
    cause: (at) => rmSync(at('l'), { recursive: true }),
    path: /\/l$/,
    severity: 'warning',
    mended: true,
  },
  {
    name: 'a missing work directory',
    cause: (at) => rmdirSync(at('box/work')),
    path: /box\/work$/,
    severity: 'error',
    mended: true,
  },
  {
    name: 'a stale `merged`',
    cause: (at) => mkdirSync(at('box/merged')),
    path: /box\/merged$/,
    severity: 'warning',
    mended: true,
  },
  {
    name: 'something in work/work',
    cause: (at) => mkdirSync(at('box/work/work/#1'), { recursive: true }),
    path: /box\/work\/work$/,
    severity: 'warning',
    mended: true,
  },
  {
    name: 'the marker of a volatile mount',
    cause: (at) => mkdirSync(at('box/work/work/incompat/volatile'), { recursive: true }),
    path: /box\/work\/work$/,
    severity: 'warning',
    mended: true,
  },
  {
    name: 'a layer that was never finished',
    cause: (at) => mkdirSync(at('.overlayfs/new/1/diff'), { recursive: true }),
    path: /new\/1$/,
    severity: 'warning',
    mended: true,
  },
  {
    name: 'a removal that was not finished',
    cause: (at) => mkdirSync(at('.overlayfs/removed/1/diff'), { recursive: true }),
    path: /removed\/1$/,
    severity: 'warning',
    mended: true,
  },
  {
    name: 'a parent that is not marked as read-only',
    cause: (at) => rmSync(at('next/committed')),
    path: /next\/committed$/,
    severity: 'warning',
    mended: true,
  },
  {
    name: 'a mark as read-only on a container without a child',
    cause: (at) => writeFileSync(at('box/committed'), ''),
    path: /box\/committed$/,
    severity: 'warning',
    mended: true,
  },
  {
    name: 'a missing parent',
    cause: (at) => renameSync(at('base'), at('.overlayfs/base')),
    path: /(next|box)\/lower$/,
    severity: 'error',
    mended: false,
  },
  {
    name: 'a missing `diff`',
    cause: (at) => rmSync(at('base/diff'), { recursive: true }),
    path: /base\/diff$/,
    severity: 'error',
    mended: false,
  },
  {
    name: 'a symbolic link for `diff`',
    cause: (at) => {
      rmSync(at('base/diff'), { recursive: true });
      symlinkSync('/etc', at('base/diff'));
    },
    path: /base\/diff$/,
    severity: 'error',
    mended: false,
  },
];

describePrivileged('a damaged store', () => {
  const scratch = scratchOn('tmpfs');
  const inStore = (store: LayerStore) => ({
    at: (...names: string[]) => join(store.root, ...names),
    link: (id: string) => readFileSync(join(store.root, id, 'link'), 'utf8'),
  });

  it('is told from one in order', async () => {
    const store = await opened(scratch);
    await threeLayers(store, scratch);
    expect(await store.check()).toEqual([]);
    await using _ = await store.mount('box');
    expect(await store.check({ repair: true })).toEqual([]);
  });

  it.each(damages)(
    'is found and mended as far as it can be: $name',
    async ({ cause, path, severity, mended }) => {
      const store = await opened(scratch);
      await threeLayers(store, scratch);
      const { at, link } = inStore(store);
      cause(at, link);
      const found = await store.check();
      expect(found).not.toEqual([]);
      for (const finding of found) expect(finding).toMatchObject({ repaired: false });
      expect(found.find((finding) => path.test(finding.path ?? ''))).toMatchObject({
        severity,
        repairable: mended,
      });
      expect(await store.check()).toEqual(found); // looking changes nothing
      const repaired = await store.check({ repair: true });
      const left = await store.check();
      if (!mended) {
        expect(left).not.toEqual([]);
        return;
      }
      expect(repaired.every((finding) => finding.repaired)).toBe(true);
      expect(left).toEqual([]);
      await using box = await store.mount('box');
      expect(readdirSync(box.path('dir')).sort()).toEqual(['b', 'c']);
      const docker = join(store.root, readFileSync(at('box/lower'), 'utf8').split(':')[1] ?? '');
      expect(readdirSync(docker).sort()).toEqual(['a', 'dir']);
    },
  );

  it.each(['overlay2', 'overlay'] as const)(
    'can be one in which layers lie below themselves: %s',
    async (driver) => {
      const store = await opened(scratch, { driver });
      await threeLayers(store, scratch);
      const { at } = inStore(store);
      const circle = (id: string, below: string) =>
        expect.objectContaining({ id, detail: `the layer lies below itself: ${below}`, repairable: false });
      const takeFor = (id: string, chain: readonly string[]) => {
        const sidecar = JSON.parse(readFileSync(at(id, 'overlayfs.json'), 'utf8'));
        writeFileSync(at(id, 'overlayfs.json'), JSON.stringify({ ...sidecar, chain }));
      };
      takeFor('base', ['box', 'next', 'base']);
      expect(await store.check()).toContainEqual(circle('base', 'base → box → next → base'));
      takeFor('base', []);
      takeFor('next', ['box']);
      const found = await store.check();
      expect(found).toContainEqual(circle('next', 'next → box → next'));
      expect(found).toContainEqual(circle('box', 'box → next → box'));
    },
  );

  it.each(['overlay2', 'overlay'] as const)(
    'can be one in which a layer and its parent do not agree on what lies below: %s',
    async (driver) => {
      const store = await opened(scratch, { driver });
      await threeLayers(store, scratch);
      const { at, link } = inStore(store);
      const sidecar = JSON.parse(readFileSync(at('box/overlayfs.json'), 'utf8'));
      writeFileSync(at('box/overlayfs.json'), JSON.stringify({ ...sidecar, chain: ['next'] }));
      if (driver === 'overlay2') writeFileSync(at('box/lower'), `l/${link('next')}`);
      expect(await store.check()).toMatchObject([
        {
          id: 'box',
          detail: 'it takes its parent next to lie on nothing, and that lies on base',
          repairable: false,
        },
      ]);
    },
  );

  it('tells of a mount without a layer, and leaves it alone', async () => {
    const store = await opened(scratch);
    await threeLayers(store, scratch);
    const { at } = inStore(store);
    const box = await store.mount('box');
    afterThisTest(() => box.unmount());
    renameSync(at('box'), at('other'));
    afterThisTest(() => renameSync(at('other'), at('box')));
    mkdirSync(at('gone/merged'), { recursive: true });
    await using _ = await mountOverlay({ lower: at('base/diff'), scratch: true, target: at('gone/merged') });
    expect(await store.check({ repair: true })).toContainEqual(
      expect.objectContaining({ code: 'WARN_OVERLAY_STORE_UNKNOWN_MOUNT', path: at('gone/merged') }),
    );
    expect(scratch.mounts()).toContain(at('gone/merged'));
  });

  it('refuses to mount a layer of which a part has been replaced', async () => {
    const store = await opened(scratch);
    await threeLayers(store, scratch);
    const { at, link } = inStore(store);
    const lower = readFileSync(at('box/lower'), 'utf8');
    for (const text of ['', `${lower}:l/${'A'.repeat(25)}`, '/etc', 'l/../../etc']) {
      writeFileSync(at('box/lower'), text);
      await expect(store.mount('box')).rejects.toMatchObject({ code: 'ERR_OVERLAY_STORE_LAYER_DAMAGED' });
    }
    writeFileSync(at('box/lower'), lower);
    rmSync(at('box/overlayfs.json')); // as another program would have made it
    const links = at('l', link('base'));
    rmSync(links);
    for (const target of [undefined, '/etc', '../../etc/diff', '../base/work']) {
      rmSync(links, { force: true });
      if (target !== undefined) symlinkSync(target, links);
      await expect(store.mount('box')).rejects.toMatchObject({ code: 'ERR_OVERLAY_STORE_LAYER_DAMAGED' });
    }
    expect(scratch.mounts()).toEqual([]);
  });

  it('follows no symbolic link in the place of a directory', async () => {
    const store = await opened(scratch);
    await threeLayers(store, scratch);
    const { at } = inStore(store);
    const outside = scratch.directory('outside');
    scratch.file('outside/precious');
    for (const name of ['box/diff', 'box/work', 'base/diff']) {
      renameSync(at(name), at('.overlayfs/aside'));
      symlinkSync(outside, at(name));
      await expect(store.mount('box')).rejects.toMatchObject({ code: 'ERR_OVERLAY_STORE_LAYER_DAMAGED' });
      if (name === 'box/diff') await expect(store.apply('box', scratch.path('base'))).rejects.toThrow();
      rmSync(at(name));
      renameSync(at('.overlayfs/aside'), at(name));
    }
    renameSync(at('l'), at('.overlayfs/aside'));
    symlinkSync(outside, at('l'));
    await expect(store.create('new', { kind: 'image' })).rejects.toMatchObject({
      code: 'ERR_OVERLAY_STORE_FAILED',
    });
    await expect(store.remove('box')).rejects.toMatchObject({ code: 'ERR_OVERLAY_STORE_FAILED' });
    expect(readdirSync(outside)).toEqual(['precious']);
  });

  it('is cleared of what killed processes have left, and of nothing else', async () => {
    const store = await opened(scratch);
    await threeLayers(store, scratch);
    const { at } = inStore(store);
    mkdirSync(at('.overlayfs/new/1/diff'), { recursive: true });
    mkdirSync(at('.overlayfs/new/2/diff'), { recursive: true });
    mkdirSync(at('.overlayfs/removed/1/diff/deep'), { recursive: true });
    symlinkSync('../gone/diff', at('l', 'A'.repeat(26)));
    const expected = [
      ['half-made', '.overlayfs/new/1'],
      ['half-made', '.overlayfs/new/2'],
      ['removed', '.overlayfs/removed/1'],
      ['dangling-link', `l/${'A'.repeat(26)}`],
    ].map(([kind, path]) => ({ kind, path, removed: false }));
    expect(await store.gc({ dryRun: true })).toEqual(expected);
    expect(existsSync(at('.overlayfs/new/1'))).toBe(true);
    expect(await store.gc()).toEqual(expected.map((one) => ({ ...one, removed: true })));
    expect(await store.gc()).toEqual([]);
    expect((await store.list()).map(({ id }) => id)).toEqual(['base', 'box', 'next']);
    expect(await store.check()).toEqual([]);
  });

  it('keeps what is being made for as long as its maker lives', async () => {
    const store = await opened(scratch);
    await threeLayers(store, scratch);
    const { at } = inStore(store);
    const made = '.overlayfs/new/1';
    mkdirSync(at(made, 'diff'), { recursive: true });
    const looks: readonly (() => Promise<readonly unknown[]>)[] = [
      () => store.gc({ dryRun: true }),
      () => store.gc(),
      () => store.check({ repair: true }),
    ];
    {
      await using _maker = await waitingShell(`exec 9< '${at(made)}'; flock -x 9`);
      for (const look of looks) expect(await look()).toEqual([]);
      expect(existsSync(at(made, 'diff'))).toBe(true);
    }
    expect(await store.gc()).toEqual([{ kind: 'half-made', path: made, removed: true }]);
    expect(existsSync(at(made))).toBe(false);
  });

  it.each(['overlay2', 'overlay'] as const)(
    'has nothing of who loses an id to another: %s',
    async (driver) => {
      const store = await opened(scratch, { driver, lockTimeout: 10_000 });
      await threeLayers(store, scratch);
      const before = readdirSync(store.root).length;
      const links = () => (driver === 'overlay2' ? readdirSync(join(store.root, 'l')).length : 0);
      const linksBefore = links();
      const outcomes = await Promise.allSettled(
        Array.from({ length: 12 }, (_, index) =>
          store.create('wanted', { kind: 'container', parent: index % 4 === 0 ? 'box' : 'next' }),
        ),
      );
      const won = outcomes.filter(({ status }) => status === 'fulfilled');
      expect(won).toHaveLength(1);
      for (const outcome of outcomes)
        if (outcome.status === 'rejected')
          expect(outcome.reason).toMatchObject({ code: 'ERR_OVERLAY_STORE_LAYER_EXISTS' });
      expect(readdirSync(join(store.root, '.overlayfs/new'))).toEqual([]);
      expect(readdirSync(store.root)).toHaveLength(before + 1);
      expect(links()).toBe(driver === 'overlay2' ? linksBefore + 1 : 0);
      const parent = await store.parent('wanted');
      expect(existsSync(join(store.root, 'box/committed'))).toBe(parent === 'box');
      expect(await store.check()).toEqual([]);
    },
  );
});
