/**
 * A quota that is used up: what was complete stays, the rest leaves nothing. Those of btrfs bind root too, and its tools are
 * here anyway.
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { constants } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { copyUp, createWhiteouts, isWhiteout, mountOverlay } from '../../lib/index.ts';
import { buildTree, everything, seeTree } from '../support/described-tree.ts';
import { expectRefusal } from '../support/refusal.ts';
import { afterThisTest, describeOn, type Scratch } from '../support/scratch.ts';

const megabyte = 1 << 20;

/** A subvolume that may hold so much, with an upper and a work directory. The lower is elsewhere: nothing can be cloned. */
function limited(scratch: Scratch, bytes: number) {
  const lower = scratch.directory('lower');
  execFileSync('mount', ['-t', 'tmpfs', 'tmpfs', lower]);
  afterThisTest(() => execFileSync('umount', [lower]));
  writeFileSync(join(lower, 'hello'), 'from the lower');
  const box = scratch.path('box');
  const btrfs = (...args: string[]) =>
    execFileSync('btrfs', args, { env: { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/sbin` } });
  btrfs('subvolume', 'create', box);
  btrfs('quota', 'enable', box);
  const limit = (most: number | 'none') => btrfs('qgroup', 'limit', `${most}`, box);
  const paths = { lower, upper: join(box, 'upper'), work: join(box, 'work') };
  for (const path of [paths.upper, paths.work]) mkdirSync(path);
  limit(bytes);
  afterThisTest(() => btrfs('quota', 'disable', box));
  return { box, limit, target: scratch.directory('merged'), ...paths };
}

/** Uses up what is left, to the last block. */
function fill(box: string): void {
  for (let size = megabyte; size >= 512; size >>= 1) {
    for (let i = 0; ; i++) {
      try {
        writeFileSync(join(box, `filler-${size}-${i}`), Buffer.alloc(size, 1), { flush: true });
      } catch (error) {
        expect((error as NodeJS.ErrnoException).errno).toBe(-constants.errno.EDQUOT); // Node.js has no code for it
        break;
      }
    }
  }
}

describeOn(['btrfs'], 'With a quota that is used up', (scratch) => {
  it('copyUp without a mount keeps what was complete, and nothing else', async () => {
    const { lower, upper, work } = limited(scratch, 4 * megabyte);
    writeFileSync(join(lower, 'big'), Buffer.alloc(8 * megabyte, 1));
    const given: string[] = [];
    const copying = async () => {
      for await (const { path } of copyUp({ lower, upper, work }, ['hello', 'big'], { concurrency: 1 }))
        given.push(path);
    };
    await expect(copying()).rejects.toMatchObject({ code: 'EDQUOT', path: 'big' });
    expect([given, readdirSync(upper), readdirSync(work)]).toEqual([['hello'], ['hello'], []]);
  });

  it('copyUp without a mount says so where it could not even begin', async () => {
    const { box, lower, upper, work } = limited(scratch, 2 * megabyte);
    fill(box);
    const error = await expectRefusal(scratch, 'ERR_OVERLAY_NO_SPACE', async () =>
      copyUp({ lower, upper, work }, 'hello'),
    );
    expect(error.message).toContain('quota');
  });

  it('copyUp through a mount tells the path, and the file is still that of the lower', async () => {
    const { lower, upper, work, target } = limited(scratch, 4 * megabyte);
    writeFileSync(join(lower, 'big'), Buffer.alloc(8 * megabyte, 1));
    await using overlay = await mountOverlay({ lower, upper, work, target });
    await expect(overlay.copyUp('big')).rejects.toMatchObject({ code: 'EDQUOT', path: 'big' });
    expect(await overlay.whichLayer('big')).toMatchObject({ place: { layer: 'lower' } });
    expect(readdirSync(upper)).toEqual([]);
  });

  it('a rename that has to copy is as if it had not been', async () => {
    const { lower, upper, work, target } = limited(scratch, 4 * megabyte);
    mkdirSync(join(lower, 'from'));
    await buildTree(join(lower, 'from'), everything);
    writeFileSync(join(lower, 'from/big'), Buffer.alloc(8 * megabyte, 1));
    await using overlay = await mountOverlay({ lower, upper, work, target });
    const before = await seeTree(overlay.path('from'));
    await expect(overlay.rename('from', 'to')).rejects.toMatchObject({ code: 'EDQUOT' });
    expect(await seeTree(overlay.path('from'))).toEqual(before);
    expect(readdirSync(overlay.path()).sort()).toEqual(['from', 'hello']);
  });

  it('whiteouts say how far they came, and go on from there', async () => {
    const { box, limit } = limited(scratch, megabyte);
    const layer = join(box, 'upper');
    const paths = Array.from({ length: 20_000 }, (_, i) => `${'w'.repeat(200)}${i}`);
    const error = await createWhiteouts(layer, paths).catch((reason) => reason);
    const made = readdirSync(layer).length;
    expect(error).toMatchObject({ code: 'EDQUOT', path: paths[made] });
    expect(error.outcomes.filter((outcome: unknown) => outcome === 'made')).toHaveLength(made);
    limit('none');
    const { outcomes } = await createWhiteouts(layer, paths);
    expect(outcomes.map((outcome) => outcome === 'present').lastIndexOf(true)).toBe(made - 1);
    expect(await isWhiteout(layer, paths.slice(-1))).toEqual(['device']);
  });
});
