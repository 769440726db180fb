/**
 * Stores whose writers die: killed, or with the power. What had been acknowledged is there, and what had not been is whole
 * or gone. OVERLAYFS_TEST_POWER_CUTS says how often the power goes; 6 times for each driver and
 * durability unless it is set, 200 before a release.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { type Durability, openStore, type StoreDriver } from '../../lib/store/index.ts';
import { importTypeScript, moduleUrl, runChild } from '../support/child.ts';
import { describePrivileged } from '../support/needs.ts';
import { afterThisTest, scratchOn } from '../support/scratch.ts';
import { drivers } from '../support/store-operations.ts';

const CUTS = Number(process.env.OVERLAYFS_TEST_POWER_CUTS ?? 6);
const KILLS = 3;
const library = new URL('../../lib/store/index.ts', import.meta.url).href;
const program = fileURLToPath(new URL('children/store-writer.mjs', import.meta.url));

/** A process that changes a store without end. */
interface Writer {
  readonly child: ChildProcess;
  /** What it has said so far. */
  said(): readonly string[];
  kill(): Promise<void>;
}

async function writing(
  root: string,
  own: string,
  driver: StoreDriver,
  durability: Durability,
): Promise<Writer> {
  const args = [...importTypeScript, program, library, root, driver, durability, own];
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
  driver: StoreDriver,
  durability: Durability,
): Promise<void> {
  await using store = await openStore(root, { driver, durability: 'none' });
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
    expect(readFileSync(join(root, id, driver === 'overlay' ? 'root/file' : 'diff/file'), 'utf8')).toBe(
      `content of ${id}`,
    );
  }
  const last = begun('+').findLast((id) => id.startsWith('box') && ids.includes(id));
  if (last === undefined) return;
  // What was written through its mount was never said to be durable: no more than that it is there.
  await using box = await store.mount(last);
  expect(readdirSync(box.path())).toEqual(['file']);
}

describePrivileged('a store whose writer is killed', () => {
  const scratch = scratchOn('tmpfs');

  it.each(drivers)(
    `keeps what had been acknowledged, ${KILLS} times: %s`,
    {
      timeout: 120_000,
    },
    async (driver) => {
      const root = scratch.path('store');
      const all: string[] = [];
      for (let kill = 0; kill < KILLS; kill++) {
        const writer = await writing(root, scratch.path('own'), driver, 'none');
        await sleep(Math.random() * 120);
        await writer.kill();
        all.push(...writer.said());
        for (const point of scratch.mounts()) execFileSync('umount', [point]);
        await expectAcknowledged(root, all, all, driver, 'syncfs'); // the system lives
      }
      expect(all.length).toBeGreaterThan(KILLS);
    },
  );
});

describePrivileged('a store that several processes use at once', () => {
  const scratch = scratchOn('tmpfs');

  it.each(drivers)(
    'gives an id to one of them, and lets all of them work: %s',
    {
      timeout: 120_000,
    },
    async (driver) => {
      const root = scratch.path('store');
      const options = { driver, durability: 'none' } as const;
      scratch.file('content/file', 'of an image');
      {
        await using store = await openStore(root, options);
        await store.create('base', { kind: 'image' });
      }
      const body = `
      const { openStore } = await import(${JSON.stringify(moduleUrl('store/index'))});
      const { readFileSync, writeFileSync } = await import('node:fs');
      const store = await openStore(${JSON.stringify(root)}, ${JSON.stringify(options)});
      const won = [], other = [];
      const unless = (codes) => (error) => {
        if (!codes.some((code) => error.code === 'ERR_OVERLAY_STORE_' + code)) other.push(String(error));
      };
      for (let i = 0; i < 6; i++) {
        await store.create('box-' + i, { kind: 'container', parent: 'base' }).then(
          () => won.push(i),
          unless(['LAYER_EXISTS']),
        );
        // All want to fill the same image, and lay something on it meanwhile.
        const [image, mine] = ['image-' + i, 'own-' + process.pid + '-' + i];
        await store.create(image, { kind: 'image', parent: 'base' }).catch(unless(['LAYER_EXISTS']));
        await Promise.all([
          store.apply(image, ${JSON.stringify(scratch.path('content'))}).catch(unless(['LAYER_READONLY'])),
          store.create(mine, { kind: 'container', parent: image }),
        ]);
        const mounted = await store.mount(mine, { keepOnExit: false });
        writeFileSync(mounted.path('own'), mine);
        await mounted.unmount();
        await store.commit(mine, { id: mine + '-saved' });
        const saved = await store.mount(mine + '-saved', { keepOnExit: false });
        if (readFileSync(saved.path('own'), 'utf8') !== mine) other.push(mine + ' was not saved');
        await saved.unmount();
        if (i % 3 === 0) await store.gc();
        if (i % 3 === 1) await store.check({ repair: true });
        await store.remove(mine + '-saved');
        await store.remove(mine);
      }
      report({ won, other });`;
      const outcomes = await Promise.all(
        [1, 2].map(() => runChild<{ won: number[]; other: string[] }>(body)),
      );
      expect(outcomes.flatMap(({ other }) => other)).toEqual([]);
      const won = outcomes.flatMap(({ won }) => won).sort((a, b) => a - b);
      expect(won).toEqual(Array.from({ length: 6 }, (_, index) => index));
      await using store = await openStore(root, options);
      expect(await store.check()).toEqual([]);
      expect(await store.gc()).toEqual([]);
      expect(await store.list()).toHaveLength(1 + 6 + 6);
    },
  );
});

describePrivileged('a store whose machine loses its power', () => {
  // The store's file system lies in a file on one with reflinks: a clone of that file is the disk as it was at that moment.
  const scratch = scratchOn('xfs');

  const cases = drivers.flatMap((driver) =>
    (['syncfs', 'metadata'] as const).map((durability) => [driver, durability] as const),
  );

  it.each(cases)(
    `keeps what had been acknowledged, ${CUTS} times: %s with durability '%s'`,
    { timeout: 60_000 + 2_000 * CUTS },
    async (driver, durability) => {
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
      const writer = await writing(join(live, 'store'), join(live, 'own'), driver, durability);
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
          await expectAcknowledged(join(after, 'store'), said, later, driver, durability);
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
