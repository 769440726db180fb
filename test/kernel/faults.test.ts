/** Whichever system call fails, and whenever: an error that explains itself, and nothing left behind. */
import { expect, it } from 'vitest';
import { mountOverlay, OverlayError, type OverlayOptions, planOverlay } from '../../lib/index.ts';
import { clear, plan } from '../support/faults.ts';
import { describePrivileged } from '../support/needs.ts';
import { expectRefusal } from '../support/refusal.ts';
import { scratchOn } from '../support/scratch.ts';
import { snapshot } from '../support/snapshot.ts';

const calls = [
  'fsopen',
  'fsconfig:SET_STRING',
  'fsconfig:SET_FD',
  'fsconfig:CMD_CREATE',
  'fsmount',
  'move_mount',
  'mount_setattr',
  'mount',
  'statx',
  'statmount',
  'fstatfs',
  'openat',
  'fcntl',
  'mkdirat',
  'fstatat',
  'fgetxattr',
  'flistxattr',
  'flock',
  'unshare',
  'fchdir',
  'name_to_handle_at',
];
const kinds: Readonly<Record<string, Partial<OverlayOptions>>> = {
  'a writable overlay': {},
  'an overlay by mount(2)': { mountApi: 'mount' },
  'a read-only overlay by mount(2)': { mountApi: 'mount', readonly: true },
  'a target that is made': { mkdirTarget: true },
};

describePrivileged('a system call that fails once', () => {
  const scratch = scratchOn();

  it.each(calls.flatMap((call) => Object.keys(kinds).map((kind) => [call, kind] as const)))(
    '(%s) leaves nothing of %s',
    async (call, kind) => {
      await planOverlay({ lower: ['/a', '/b'] }); // what the kernel can do is known then
      for (const error of ['EIO', 'ENOMEM'] as const) {
        // Every time that it is called, until none is left to fail.
        for (let skip = 0; skip < 12; skip++) {
          const layers = scratch.layers(`${error}-${skip}`);
          const target = kinds[kind]?.mkdirTarget ? scratch.path(`made-${error}-${skip}`) : layers.target;
          const before = await snapshot(scratch.root);
          plan({ call, error, skip, times: 1 });
          const outcome = await mountOverlay({ ...layers, ...kinds[kind], target }).catch(
            (reason: unknown) => reason,
          );
          clear();
          if (outcome instanceof Error) {
            expect(outcome).toBeInstanceOf(OverlayError);
            expect({ skip, error, files: await snapshot(scratch.root) }).toEqual({
              skip,
              error,
              files: before,
            });
          } else {
            await (outcome as Awaited<ReturnType<typeof mountOverlay>>).unmount();
          }
          expect({ skip, error, mounts: scratch.mounts() }).toEqual({ skip, error, mounts: [] });
        }
      }
    },
  );
});

describePrivileged('a detached view whose attaching fails', () => {
  const scratch = scratchOn();

  it.each(['move_mount', 'mount_setattr', 'openat', 'statx', 'mkdirat'])(
    'in %s is as it was',
    async (call) => {
      await using view = await mountOverlay({ lower: scratch.layers().lower, scratch: true });
      plan({ call, error: 'EIO', times: 1 });
      await expectRefusal(scratch, 'ERR_OVERLAY_TARGET_UNREACHABLE', () =>
        view.attach(scratch.path('made'), { mkdirTarget: true }),
      );
      expect(view.fd).toBeGreaterThan(0);
    },
  );
});

describePrivileged('an unmount that fails once', () => {
  const scratch = scratchOn();

  it('can be tried again', async () => {
    const overlay = await mountOverlay(scratch.layers());
    plan({ call: 'umount2', error: 'EIO', times: 1 });
    await expectRefusal(scratch, 'ERR_OVERLAY_UNMOUNT_FAILED', () => overlay.unmount());
    await overlay.unmount();
  });

  it('is tried again by itself while the mount is busy', async () => {
    const overlay = await mountOverlay(scratch.layers());
    plan({ call: 'umount2', error: 'EBUSY', times: 3 });
    await overlay.unmount();
  });
});
