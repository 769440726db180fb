/** Whether an upper or a work directory is used by a live overlay, wherever that one is. */
import { execFileSync } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { binding } from '../../lib/addon.ts';
import { mountOverlay, type OverlayOptions } from '../../lib/index.ts';
import { kernelFeatures } from '../../lib/inspect/kernel.ts';
import { type Waiting, waitingShell } from '../support/child.ts';
import { expectRefusal } from '../support/refusal.ts';
import { afterThisTest, describeOn, fileSystems, type Layers } from '../support/scratch.ts';

const optionsOf = ({ lower, upper, work }: Layers) => `lowerdir=${lower},upperdir=${upper},workdir=${work}`;

/** Who uses the layers, until what is returned is disposed of. */
const users: Readonly<Record<string, (layers: Layers) => Promise<AsyncDisposable>>> = {
  'an overlay of this process': (layers) => mountOverlay(layers),

  'a detached view that was never attached': ({ target: _, ...layers }) => mountOverlay(layers),

  'an overlay of a process that has ended': async (layers) => {
    execFileSync('mount', ['-t', 'overlay', '-o', optionsOf(layers), 'foreign', layers.target]);
    return { [Symbol.asyncDispose]: async () => void execFileSync('umount', [layers.target]) };
  },

  'an overlay in another mount namespace': (layers) =>
    waitingShell(`mount -t overlay -o ${optionsOf(layers)} foreign ${layers.target}`, ['unshare', '--mount']),

  'a lazily unmounted overlay with a file open in it': async (layers) => {
    const overlay = await mountOverlay(layers);
    const fd = openSync(join(layers.target, 'hello'), 'r');
    await overlay.unmount({ lazy: true });
    return { [Symbol.asyncDispose]: async () => closeSync(fd) };
  },
};

describeOn(fileSystems, 'a live overlay', (scratch) => {
  /** The same upper or work once more, everything else fresh. */
  const again = (layers: Layers, ...shared: (keyof Layers)[]): OverlayOptions => {
    const fresh = scratch.layers('fresh');
    return { ...fresh, ...Object.fromEntries(shared.map((role) => [role, layers[role]])) };
  };

  it.each(Object.entries(users))('keeps its upper and its work from another mount: %s', async (_, use) => {
    const layers = scratch.layers();
    const user = await use(layers);
    scratch.layers('fresh');
    let released = false;
    afterThisTest(() => released || user[Symbol.asyncDispose]());

    const upper = await expectRefusal(scratch, 'ERR_OVERLAY_UPPER_IN_USE', () =>
      mountOverlay(again(layers, 'upper', 'work')),
    );
    expect(upper).toMatchObject({ path: layers.upper, syscall: 'fsconfig' });
    await expectRefusal(scratch, 'ERR_OVERLAY_UPPER_IN_USE', () => mountOverlay(again(layers, 'upper')));
    const work = await expectRefusal(scratch, 'ERR_OVERLAY_WORK_IN_USE', () =>
      mountOverlay(again(layers, 'work')),
    );
    expect(work.path).toBe(layers.work);

    await user[Symbol.asyncDispose]();
    released = true;
    await untilFree(() => mountOverlay(again(layers, 'upper', 'work')));
  });

  it('is seen by mount(2) and through descriptors too', async () => {
    const layers = scratch.layers();
    await using _ = await mountOverlay(layers);
    const options = again(layers, 'upper', 'work');
    await expectRefusal(scratch, 'ERR_OVERLAY_UPPER_IN_USE', () =>
      mountOverlay({ ...options, mountApi: 'mount' }),
    );
    const fds = [layers.upper, layers.work].map((path) => openSync(path, 'r'));
    afterThisTest(() => fds.map((fd) => closeSync(fd)));
    const [upper, work] = fds.map((fd) => ({ fd })) as [{ fd: number }, { fd: number }];
    await expectRefusal(scratch, 'ERR_OVERLAY_UPPER_IN_USE', () => mountOverlay({ ...options, upper, work }));
  });

  it('is mounted beside with checkInUse: false, as the kernel takes it', async () => {
    const layers = scratch.layers();
    await using _ = await mountOverlay(layers);
    await using second = await mountOverlay({ ...again(layers, 'upper', 'work'), checkInUse: false });
    expect(second.report.unverified).toEqual([]);
  });

  it('does not keep its lower from another mount', async () => {
    const layers = scratch.layers();
    await using _ = await mountOverlay(layers);
    await using second = await mountOverlay(again(layers, 'lower'));
    expect(second.report.unverified).toEqual([]);
  });

  it('is asked for of a single directory too, and the answer is known either way', async () => {
    const { detachedLayers } = await kernelFeatures();
    const layers = scratch.layers();
    const asked = (path: string) => binding().directoryInUse(Buffer.from(path), detachedLayers);
    for (const path of [layers.upper, layers.work])
      expect(await asked(path)).toEqual({ answer: 'no', reason: '' });
    await using _ = await mountOverlay(layers);
    for (const path of [layers.upper, layers.work]) expect((await asked(path)).answer).toBe('yes');
    expect((await asked(layers.lower)).answer).toBe('no');
  });

  it('is refused by the kernel itself as a lower of an overlay with an index', async () => {
    const layers = scratch.layers();
    await using _ = await mountOverlay(layers);
    const { upper, work, target } = scratch.layers('fresh');
    await expectRefusal(scratch, 'ERR_OVERLAY_UPPER_IN_USE', () =>
      mountOverlay({ lower: layers.upper, upper, work, target, index: true }),
    );
  });
});

describeOn(['tmpfs'], 'two mounts of one upper at the same time', (scratch) => {
  it('are kept apart by a lock on the work directory, which is waited for and then given up', async () => {
    const layers = scratch.layers();
    await using _ = await lockedBy(layers.work);
    await expectRefusal(scratch, 'ERR_OVERLAY_WORK_LOCKED', () => mountOverlay(layers));
  });

  it('are taken in turns: one wins, the other is told', async () => {
    const layers = scratch.layers();
    const targets = [layers.target, ...Array.from({ length: 7 }, (_, i) => scratch.directory(`target-${i}`))];
    const outcomes = await Promise.allSettled(targets.map((target) => mountOverlay({ ...layers, target })));
    const won = outcomes.flatMap((outcome) => (outcome.status === 'fulfilled' ? [outcome.value] : []));
    const lost = outcomes.flatMap((outcome) => (outcome.status === 'rejected' ? [outcome.reason.code] : []));
    expect(won).toHaveLength(1);
    expect(new Set(lost)).toEqual(new Set(['ERR_OVERLAY_UPPER_IN_USE']));
    expect(scratch.mounts()).toEqual([won[0]?.target]);
    await won[0]?.unmount();
  });
});

// The superblock of a mount in another namespace goes a moment after its last process.
async function untilFree(mount: () => ReturnType<typeof mountOverlay>): Promise<void> {
  await expect
    .poll(
      async () => {
        await using overlay = await mount();
        return overlay.report.rung;
      },
      { timeout: 5000 },
    )
    .toBeTypeOf('string');
}

function lockedBy(directory: string): Promise<Waiting> {
  return waitingShell(`exec 9<${directory}; flock --exclusive 9`);
}
