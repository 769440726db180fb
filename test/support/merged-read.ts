/**
 * The whole of a mergedView(), as a naive view of the mount would tell it.
 */
import { createHash } from 'node:crypto';
import { expect } from 'vitest';
import type { MergedStats, MergedView } from '../../lib/index.ts';
import type { Seen, View } from './view.ts';

/** Checks that it shows what a mount does. */
export async function expectMerged(merged: MergedView, shown: View): Promise<void> {
  const seen = Object.entries(shown).map(([path, one]) => [path, comparable(one)]);
  expect(await readWhole(merged)).toEqual(Object.fromEntries(seen));
}

async function readWhole(merged: MergedView): Promise<Record<string, unknown>> {
  const found: Record<string, unknown> = {
    '.': await read(merged, Buffer.from('.'), await merged.stat('.')),
  };
  for await (const { pathBytes, stats, type } of merged.walk('.', { stats: true })) {
    expect(stats?.type).toBe(type);
    // To read a symbolic link changes the time of access of its other names, and xfs allocates when it writes back.
    const { atimeNs, blocks } = stats ?? {};
    expect({ ...(await merged.stat(pathBytes)), atimeNs, blocks }).toEqual(stats);
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
