// @module-tag vm
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { readdirSync, utimesSync } from 'node:fs';
import { expect, it, vi } from 'vitest';
import { copyUp, type LayerStack, mountOverlay } from '../../lib/index.ts';
import { run } from '../support/commands.ts';
import { readsXattrWhiteouts } from '../support/kernel.ts';
import { expectRefusal } from '../support/refusal.ts';
import { afterThisTest, describeOn, fileSystems, type Scratch } from '../support/scratch.ts';
import { makeTree, showTree, type TreeEntry, touchTree, unprotectTree } from '../support/tree.ts';
import { setXattr } from '../support/xattr.ts';

const uuid = /^(trusted|user)\.overlay\.uuid$/;
// A kernel that knows of no escaping takes what is escaped for its own, and leaves it behind.
const leftOut = (await readsXattrWhiteouts()) ? uuid : /^(trusted|user)\.overlay\.(uuid$|overlay\.)/;

/** What two uppers must agree on: the random uuid is left out, and blocks are compared by themselves. */
function comparable(tree: Record<string, TreeEntry>) {
  return Object.fromEntries(
    Object.entries(tree).map(([path, { blocks, xattrs, ...entry }]) => [
      path,
      {
        ...entry,
        xattrs: Object.fromEntries(Object.entries(xattrs).filter(([name]) => !leftOut.test(name))),
      },
    ]),
  );
}

function expectSame(ours: Record<string, TreeEntry>, kernels: Record<string, TreeEntry>): void {
  expect(comparable(ours)).toEqual(comparable(kernels));
  for (const [path, { blocks }] of Object.entries(ours)) {
    // The kernel fills holes within a mebibyte of data; file systems round up as they see fit.
    expect(blocks, `blocks of ${path}`).toBeLessThanOrEqual((kernels[path]?.blocks ?? 0) + 256);
  }
}

/** One lower, two uppers: the first for us, the second for the kernel. */
function twoStacks(scratch: Scratch, userxattr: boolean) {
  const lower = scratch.directory('lower');
  const stack = (name: string): LayerStack & { upper: string; work: string } => ({
    lower,
    upper: scratch.directory(name, 'upper'),
    work: scratch.directory(name, 'work'),
    userxattr,
  });
  const both = { ours: stack('ours'), kernels: stack('kernels') };
  // What is put into an upper's root leaves its times alone: they must begin alike.
  for (const { upper } of Object.values(both)) utimesSync(upper, 1_000_000, 1_000_000);
  return { lower, ...both };
}

describeOn(fileSystems, 'an upper written by us and one written by the kernel', (scratch) => {
  it.each([false, true])('are equal, with every kind of file (userxattr: %s)', async (userxattr) => {
    const { lower, ours, kernels } = twoStacks(scratch, userxattr);
    makeTree(lower);
    const target = scratch.directory('merged');
    const overlay = await mountOverlay({ ...kernels, target });
    touchTree(target);
    await overlay.unmount();
    const results = await copyUp(ours, '/', { recursive: true });
    expectSame(await showTree(ours.upper), await showTree(kernels.upper));
    // Only the root was there, and nothing is missing.
    expect(results.filter(({ reason }) => reason !== undefined).map(({ path }) => path)).toEqual(['']);
    unprotectTree(lower);
  });
});

describeOn(['tmpfs', 'ext4'], 'copyUp', (scratch) => {
  /** Layers made by shell, and what the kernel makes of the same when these paths are opened for writing. */
  async function beside(
    prepare: string,
    paths: readonly string[],
    options: Pick<LayerStack, 'metacopy'> = {},
  ) {
    const stack = (name: string): LayerStack & Record<'upper' | 'work', string> => {
      run(
        ['sh', '-euc', `mkdir -p ${name}; cd ${name}; mkdir low base upper work; ${prepare}`],
        scratch.root,
      );
      const [low, base, upper, work] = ['low', 'base', 'upper', 'work'].map((one) =>
        scratch.path(name, one),
      ) as Four;
      return { lower: [low, base], upper, work, ...options };
    };
    const [ours, kernels] = [stack('ours'), stack('kernels')];
    const target = scratch.directory('merged');
    await using overlay = await mountOverlay({ ...kernels, target });
    touchTree(target, ...paths);
    await overlay.unmount();
    const results = await copyUp(ours, paths);
    return {
      results,
      ours: originless(await showTree(ours.upper)),
      kernels: originless(await showTree(kernels.upper)),
    };
  }
  type Four = [string, string, string, string];
  // The two have lowers of their own, so their origins differ.
  const originless = (tree: Record<string, TreeEntry>) =>
    Object.fromEntries(
      Object.entries(comparable(tree)).map(([path, { mtime, xattrs, ...entry }]) => {
        const names = Object.entries(xattrs).map(([name, value]) =>
          name.endsWith('.origin') ? `${name} of ${value.length}` : `${name}=${value}`,
        );
        return [path, { ...entry, names }];
      }),
    );
  const attribute = (path: string, name: string, value: string) =>
    `python3 -c "import os; os.setxattr('${path}', '${name}', b'${value}')"`;

  it('takes a path from the layer that shows it, and metadata of directories from the topmost', async () => {
    const { ours, kernels, results } = await beside(
      `mkdir -p low/d base/d/e; echo top > low/d/f; echo hidden > base/d/f; echo below > base/d/e/g
       chmod 750 low/d; chmod 711 base/d; chown 3:4 base/d/e`,
      ['d/f', 'd/e/g'],
    );
    expect(ours).toEqual(kernels);
    expect(results.map(({ path, bytes }) => [path, bytes])).toEqual([
      ['d/f', 4n],
      ['d/e/g', 6n],
    ]);
  });

  it('honours whiteouts, opaque directories and redirects', { tags: ['slow'] }, async () => {
    const { ours, kernels } = await beside(
      `mkdir -p base/d base/old upper/new; echo hidden > base/d/f; echo moved > base/old/f
       echo seen > low/seen; echo x > base/gone; mknod upper/gone c 0 0
       ${attribute('upper/new', 'trusted.overlay.redirect', '/old')}; mknod upper/old c 0 0
       ${attribute('upper/new', 'trusted.overlay.origin', '')}`,
      ['new/f', 'seen'],
    );
    expect(ours).toEqual(kernels);
    expect(Object.keys(ours)).toContain('new/f');
    const { upper, ...stack } = { lower: scratch.path('ours/base'), upper: scratch.path('ours/upper') };
    await expect(copyUp({ ...stack, upper }, 'gone')).rejects.toMatchObject({ code: 'ENOENT', path: 'gone' });
    scratch.directory('ours/upper/d');
    setXattr(scratch.path('ours/upper/d'), 'trusted.overlay.opaque', 'y');
    await expect(copyUp({ ...stack, upper }, 'd/f')).rejects.toMatchObject({ code: 'ENOENT' });
    await expect(copyUp({ ...stack, upper, redirectDir: 'nofollow' }, 'new/f')).rejects.toMatchObject({
      code: 'ERR_OVERLAY_REDIRECT_REFUSED',
    });
  });

  it('gives a metacopy file in the upper its data, and one in a lower the data from below', {
    tags: ['slow'],
  }, async () => {
    const data = `head -c 100000 /dev/urandom > base/f; cp base/f base/g; cp base/f base/h; chmod 4755 base/f
      truncate -s 100000 upper/f low/g; chown 5:6 upper/f low/g; chmod 4751 upper/f; touch -d 2001-01-01 upper/f
      ${attribute('upper/f', 'trusted.overlay.metacopy', '')}; ${attribute('low/g', 'trusted.overlay.metacopy', '')}`;
    const { ours, kernels, results } = await beside(data, ['f', 'g'], { metacopy: true });
    const without = (tree: typeof ours) =>
      Object.fromEntries(Object.entries(tree).map(([path, { content, ...entry }]) => [path, entry]));
    expect(without(ours)).toEqual(without(kernels));
    const lower = await showTree(scratch.path('ours/base'));
    expect(['f', 'g'].map((path) => ours[path]?.content)).toEqual([lower.f?.content, lower.g?.content]);
    expect(results.map(({ bytes }) => bytes)).toEqual([100000n, 100000n]);
    expect(Date.parse('2001-01-01') * 1e6).toBe(
      Number((await showTree(scratch.path('ours/upper'))).f?.mtime),
    );
  });

  it('refuses a metacopy file where the options do not honour it', async () => {
    setXattr(scratch.file('low/f'), 'trusted.overlay.metacopy');
    const stack = { lower: scratch.path('low'), upper: scratch.directory('upper') };
    await expectRefusal(scratch, 'ERR_OVERLAY_METACOPY_REFUSED', () => collected(copyUp(stack, 'f')));
  });

  it('gives results as they come, in the order asked, and skips what is there', async () => {
    const { lower, upper, work } = scratch.layers();
    for (const name of ['a', 'b', 'c/d']) scratch.file(`lower/${name}`, name);
    const stream = copyUp({ lower, upper, work }, ['c/d', 'b', 'b', 'c']);
    const seen: string[] = [];
    for await (const { path, method, reason } of stream)
      seen.push(`${path} ${method === 'skipped' ? reason : 'copied'}`);
    expect(seen[0]).toBe('c/d copied');
    expect(seen.slice(1, 3).sort()).toEqual(['b copied', 'b it is in the upper already']);
    expect(stream.unverified).toEqual([]);
    await expect(collected(stream)).rejects.toThrow('gone through already');
    expect(await copyUp({ lower, upper }, ['a', 'c/d'])).toEqual([
      expect.objectContaining({ path: 'a', pathBytes: Buffer.from('a'), bytes: 1n }),
      expect.objectContaining({ path: 'c/d', method: 'skipped', bytes: 0n, cloned: false }),
    ]);
    expect(readdirSync(upper).sort()).toEqual(['a', 'b', 'c']);
    expect(readdirSync(work)).toEqual([]);
  });

  it('tells how far it is, and publishes the outcome', async () => {
    const { lower, upper, work } = scratch.layers();
    const events: unknown[] = [];
    const listen = (event: unknown) => events.push(event);
    subscribe('overlayfs:copy-up', listen);
    afterThisTest(() => unsubscribe('overlayfs:copy-up', listen));
    const progress = vi.fn();
    await copyUp({ lower, upper, work }, '/', { recursive: true, progress, concurrency: 1 });
    expect(progress).toHaveBeenLastCalledWith({ entries: 2, bytes: 14n });
    expect(events).toEqual([expect.objectContaining({ mounted: false, entries: 2, bytes: 14n })]);
  });
});

const collected = async <T>(stream: PromiseLike<T>): Promise<T> => stream;
