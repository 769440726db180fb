/**
 * Stores whose writers die: killed, or with the power. What had been acknowledged is there, and what had not been is whole
 * or gone. OVERLAYFS_TEST_POWER_CUTS says how often the power goes; 12 times unless it is set, 200 before a release.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { type Durability, openStore } from '../../lib/store/index.ts';
import { importTypeScript, runChild } from '../support/child.ts';
import { describePrivileged } from '../support/needs.ts';
import { afterThisTest, scratchOn } from '../support/scratch.ts';

const CUTS = Number(process.env.OVERLAYFS_TEST_POWER_CUTS ?? 12);
const KILLS = 4;
const library = new URL('../../lib/store/index.ts', import.meta.url).href;
const program = fileURLToPath(new URL('children/store-writer.mjs', import.meta.url));

/** A process that changes a store without end. */
interface Writer {
  readonly child: ChildProcess;
  /** What it has said so far. */
  said(): readonly string[];
  kill(): Promise<void>;
}

async function writing(root: string, own: string, durability: Durability): Promise<Writer> {
  const args = [...importTypeScript, program, library, root, durability, own];
  const child = spawn(process.execPath, args, { stdio: ['pipe', 'pipe', 'inherit'] });
  let text = '';
  child.stdout?.on('data', (chunk) => {
    text += chunk;
  });
  const ended = once(child, 'exit');
  const writer = {
    child,
    said: () => text.split('\n').slice(0, -1),
    kill: async () => {
      child.kill('SIGKILL');
      await ended;
    },
  };
  while (writer.said().length === 0 && child.exitCode === null && child.signalCode === null) await sleep(5);
  return writer;
}

/**
 * A sound store with all that had been acknowledged; what was begun later (by the time of `later`) may be there or not, and
 * is whole.
 */
async function expectAcknowledged(
  root: string,
  said: readonly string[],
  later: readonly string[],
  durability: Durability,
): Promise<void> {
  await using store = await openStore(root, { driver: 'overlay2', durability: 'none' });
  for (const finding of await store.check({ repair: true }))
    expect(finding).toMatchObject({ repaired: true });
  expect(await store.check()).toEqual([]);
  expect(await store.gc()).toEqual([]);
  const marked = (lines: readonly string[], mark: string) =>
    lines.filter((line) => line.startsWith(mark)).map((line) => line.slice(1));
  const begun = (mark: string) => marked(said, mark);
  const ids = (await store.list()).map(({ id }) => id);
  const going = marked(later, '?');
  for (const id of begun('+')) if (!going.includes(id)) expect(ids).toContain(id);
  for (const id of begun('-')) expect(ids).not.toContain(id);
  if (durability === 'metadata') return; // the content may be lost
  for (const id of begun('+').filter((one) => ids.includes(one) && !one.startsWith('box'))) {
    expect(readFileSync(join(root, id, 'diff/file'), 'utf8')).toBe(`content of ${id}`);
  }
  const last = begun('+').findLast((id) => id.startsWith('box') && ids.includes(id));
  if (last === undefined) return;
  await using box = await store.mount(last);
  expect(readFileSync(box.path('file'), 'utf8')).toMatch(/^content of /);
}

describePrivileged('a store whose writer is killed', () => {
  const scratch = scratchOn('tmpfs');

  it(`keeps what had been acknowledged, ${KILLS} times`, { timeout: 120_000 }, async () => {
    const root = scratch.path('overlay2');
    const all: string[] = [];
    for (let kill = 0; kill < KILLS; kill++) {
      const writer = await writing(root, scratch.path('own'), 'none');
      await sleep(Math.random() * 120);
      await writer.kill();
      all.push(...writer.said());
      for (const point of scratch.mounts()) execFileSync('umount', [point]);
      await expectAcknowledged(root, all, all, 'syncfs'); // the system lives
    }
    expect(all.length).toBeGreaterThan(KILLS);
  });
});

describePrivileged('a store that several processes use at once', () => {
  const scratch = scratchOn('tmpfs');

  it('gives an id to one of them, and lets all of them work', { timeout: 60_000 }, async () => {
    const root = scratch.path('overlay2');
    {
      await using store = await openStore(root, { driver: 'overlay2', durability: 'none' });
      await store.create('base', { kind: 'image' });
    }
    const body = `
      const { openStore } = await import(${JSON.stringify(library)});
      const store = await openStore(${JSON.stringify(root)}, { driver: 'overlay2', durability: 'none' });
      const won = [], other = [];
      for (let i = 0; i < 12; i++) {
        await store.create('box-' + i, { kind: 'container', parent: 'base' }).then(
          () => won.push(i),
          (error) => error.code === 'ERR_OVERLAY_STORE_LAYER_EXISTS' || other.push(String(error)),
        );
        const mine = 'own-' + process.pid + '-' + i;
        await store.create(mine, { kind: 'container', parent: 'base' });
        if (i % 4 === 0) await store.gc();
        await store.remove(mine);
      }
      report({ won, other });`;
    const outcomes = await Promise.all([1, 2].map(() => runChild<{ won: number[]; other: string[] }>(body)));
    expect(outcomes.flatMap(({ other }) => other)).toEqual([]);
    const won = outcomes.flatMap(({ won }) => won).sort((a, b) => a - b);
    expect(won).toEqual(Array.from({ length: 12 }, (_, index) => index));
    await using store = await openStore(root, { driver: 'overlay2', durability: 'none' });
    expect(await store.check()).toEqual([]);
    expect(await store.list()).toHaveLength(13);
  });
});

describePrivileged('a store whose machine loses its power', () => {
  // The store's file system lies in a file on one with reflinks: a clone of that file is the disk as it was at that moment.
  const scratch = scratchOn('xfs');

  it.each(['syncfs', 'metadata'] as const)(
    `keeps what had been acknowledged with durability '%s', ${CUTS} times`,
    { timeout: 60_000 + 2_000 * CUTS },
    async (durability) => {
      const disk = scratch.path('disk');
      const [live, after] = [scratch.directory('live'), scratch.directory('after')];
      execFileSync(
        'sh',
        ['-ec', 'truncate -s 128M "$0"; mkfs.ext4 -qF "$0"; mount -o loop "$0" "$1"', disk, live],
        {
          env: { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/sbin` },
        },
      );
      afterThisTest(() => execFileSync('umount', ['--recursive', live]));
      mkdirSync(join(live, 'own'));
      const writer = await writing(join(live, 'overlay2'), join(live, 'own'), durability);
      afterThisTest(() => writer.kill());
      for (let cut = 0; cut < CUTS; cut++) {
        await sleep(Math.random() * 100);
        const said = writer.said();
        const clone = scratch.path('clone');
        execFileSync('cp', ['--reflink=always', disk, clone]);
        // Without waiting, what has been said meanwhile would not have been read.
        await sleep(20);
        const later = writer.said();
        execFileSync('mount', ['-o', 'loop', clone, after]);
        try {
          await expectAcknowledged(join(after, 'overlay2'), said, later, durability);
        } finally {
          execFileSync('umount', ['--recursive', after]);
          rmSync(clone);
        }
      }
      expect(writer.said().length).toBeGreaterThan(CUTS);
      expect(writer.child.exitCode).toBeNull();
    },
  );
});
