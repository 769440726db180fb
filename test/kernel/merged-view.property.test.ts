// @module-tag vm
// For random stacks: what mergedView() reads from the layers is what a mount of them shows.

import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { type MergedStats, type MergedView, mergedView, mountOverlay } from '../../lib/index.ts';
import { configurations, operate, rounds, seed, withLowers } from '../support/operations.ts';
import { describeOn } from '../support/scratch.ts';
import { type Seen, view } from '../support/view.ts';

const runs = Number(process.env.OVERLAYFS_TEST_RUNS ?? 2);

describeOn(['tmpfs', 'ext4', 'xfs'], 'mergedView equals the mount', (scratch) => {
  it.each(configurations)('$name', async (configuration) => {
    let count = 0;
    const property = fc.asyncProperty(rounds(), async (sequences) => {
      const root = scratch.path(`${count++}`);
      await withLowers(root, configuration, sequences.slice(0, -1), async ({ target, ...layers }) => {
        await using overlay = await mountOverlay({ ...configuration.written, ...layers, target });
        await operate(target, sequences.at(-1) ?? []);
        const shown = await view(target);
        await using merged = await mergedView(overlay.layers());
        const seen = Object.entries(shown).map(([path, one]) => [path, comparable(one)]);
        expect(await readWhole(merged)).toEqual(Object.fromEntries(seen));
      });
    });
    await fc.assert(property, { numRuns: runs, seed });
  });
});

async function readWhole(merged: MergedView): Promise<Record<string, unknown>> {
  const found: Record<string, unknown> = {
    '.': await read(merged, Buffer.from('.'), await merged.stat('.')),
  };
  for await (const { pathBytes, stats, type } of merged.walk('.', { stats: true })) {
    expect(stats?.type).toBe(type);
    expect(await merged.stat(pathBytes)).toEqual(stats);
    found[pathBytes.toString('latin1')] = await read(merged, pathBytes, stats as MergedStats);
  }
  return found;
}

async function read(merged: MergedView, path: Buffer, stats: MergedStats) {
  const { type, mode, uid, gid, size, mtimeNs, rdev } = stats;
  const xattrs = [...(await merged.xattrs(path))].sort(([a], [b]) => (a < b ? -1 : 1));
  return {
    type,
    mode,
    owner: [uid, gid],
    size: type === 'file' || type === 'symlink' ? Number(size) : 0,
    mtime: String(mtimeNs),
    device: type === 'block' || type === 'character' ? [Number(rdev >> 8n), Number(rdev & 255n)] : null,
    target: type === 'symlink' ? (await merged.readlink(path)).toString('latin1') : null,
    content:
      type === 'file'
        ? createHash('sha256')
            .update(await merged.readFile(path))
            .digest('hex')
        : null,
    xattrs: Object.fromEntries(xattrs.map(([name, value]) => [name, value.toString('hex')])),
  };
}

// Links are between inodes, of which each layer has its own.
function comparable({ group: _, ...seen }: Seen) {
  return seen;
}
