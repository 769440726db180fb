/**
 * A store whose writer is killed between any two steps, for every operation: each prefix of what it does on disk is carried out,
 * and nothing after it. What was to be made is there whole or not at all, and can be made again.
 */
import { execFileSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { StoreDirectory } from '../../lib/store/directory.ts';
import { type LayerStore, openStore, type StoreDriver, type StoreOptions } from '../../lib/store/index.ts';
import { describePrivileged } from '../support/needs.ts';
import { afterThisTest, scratchOn } from '../support/scratch.ts';
import { drivers, type Operation, operations, preparedStore, shown } from '../support/store-operations.ts';

const carryOut = StoreDirectory.prototype.run;

/** From now on so many steps are carried out, and then nothing any more. */
function dieAfter(steps: number): { readonly last: () => string | undefined } {
  let left = steps;
  let last: string | undefined;
  StoreDirectory.prototype.run = async function (this: StoreDirectory, next, durable) {
    if (last === undefined && next.length <= left) {
      left -= next.length;
      return carryOut.call(this, next, durable);
    }
    const some = last === undefined ? next.slice(0, left) : [];
    last ??= some.length === 0 ? 'nothing' : `${some.at(-1)?.[0]} ${some.at(-1)?.[1]}`;
    if (some.length > 0) await carryOut.call(this, some, durable);
    throw new Error('killed');
  };
  return { last: () => last };
}

const live = (): void => {
  StoreDirectory.prototype.run = carryOut;
};

describePrivileged('a store whose writer is killed', () => {
  const scratch = scratchOn('tmpfs');

  const cases = drivers.flatMap((driver) =>
    Object.entries(operations).map(([name, operation]) => [name, driver, operation] as const),
  );

  it.each(cases)('is whole after each step of %s: %s', { timeout: 60_000 }, async (_, driver, operation) => {
    afterThisTest(live);
    const options: StoreOptions = { driver, durability: 'none', lockTimeout: 200 };
    for (let steps = 0; ; steps++) {
      const name = `store-${steps}`;
      const store = await preparedStore(scratch, name, options);
      const was = operation.layer === undefined ? undefined : await shown(store, operation.layer);
      operation.before?.(store);
      const { last } = dieAfter(steps);
      const outcome = await operation.run(store, scratch).catch((error: Error) => error.message);
      await store.close();
      live();
      for (const point of scratch.mounts()) execFileSync('umount', [point]);
      const killedAfter = last();
      try {
        await using next = await openStore(scratch.path(name), options);
        await expectSound(next, driver);
        await expectOneOrTheOther(next, operation, was);
        await repeat(next, operation);
      } catch (error) {
        throw new Error(`killed after ${steps} steps, the last of them ${killedAfter}`, { cause: error });
      }
      if (killedAfter === undefined) {
        expect(outcome).not.toBe('killed');
        if (operation.layer !== undefined) expect(steps).toBeGreaterThan(0);
        return;
      }
    }
  });

  async function expectSound(store: LayerStore, driver: StoreDriver): Promise<void> {
    for (const finding of await store.check()) expect(finding).toMatchObject({ repairable: true });
    await store.check({ repair: true });
    expect(await store.check()).toEqual([]);
    expect(await store.gc()).toEqual([]);
    const ids = (await store.list()).map(({ id }) => id);
    if (driver === 'overlay2') expect(readdirSync(join(store.root, 'l'))).toHaveLength(ids.length);
    for (const aside of ['new', 'removed'])
      expect(readdirSync(join(store.root, '.overlayfs', aside))).toEqual([]);
    for (const id of ids) {
      const strange = readdirSync(join(store.root, id)).filter((name) => name.startsWith('.'));
      expect(strange).toEqual([]);
    }
  }

  async function expectOneOrTheOther(
    store: LayerStore,
    { layer, shows, adds }: Operation,
    was: string | undefined,
  ): Promise<void> {
    if (layer === undefined) return;
    const is = await shown(store, layer);
    expect([was, shows]).toContain(is);
    if (adds === undefined || is === undefined) return;
    // What it is said to change is what it shows.
    const changed: string[] = [];
    await using changes = store.changes(layer);
    for await (const { path } of changes) changed.push(path);
    expect(changed.includes(adds)).toBe(is.split(',').includes(adds));
  }

  // As who does not know how far it got.
  async function repeat(store: LayerStore, { run, layer, shows }: Operation): Promise<void> {
    const done = layer !== undefined && (await shown(store, layer)) === shows;
    const outcome = await run(store, scratch).then(
      () => undefined,
      (error: { code: string }) => error.code,
    );
    const refusals = ['LAYER_EXISTS', 'LAYER_READONLY', 'LAYER_NOT_FOUND'];
    if (!done) expect(outcome).toBe(undefined);
    else if (outcome !== undefined) expect(refusals).toContain(outcome.slice('ERR_OVERLAY_STORE_'.length));
    if (layer !== undefined) expect(await shown(store, layer)).toBe(shows);
    expect(await store.check()).toEqual([]);
  }
});
