// @module-tag vm
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, test, vi } from 'vitest';
import { mountOverlay, type OverlayOptions, unmount } from '../../lib/index.ts';
import { mount, umount } from '../support/commands.ts';
import { expectFree, lifecycle, mountsAt } from './support.ts';

lifecycle('Unmounting', (site) => {
  async function mounted(extra: Partial<OverlayOptions> = {}) {
    const layers = site.layers();
    return { ...layers, layers, overlay: await mountOverlay({ ...layers, ...extra }) };
  }

  /** An overlay that an open file keeps busy, and what closes it. */
  async function busy(extra: Partial<OverlayOptions> = {}) {
    const one = await mounted(extra);
    const fd = openSync(one.overlay.path('hello'), 'r');
    return { ...one, letGo: () => closeSync(fd) };
  }

  const overlayError = (code: string) => expect.objectContaining({ name: 'OverlayError', code });

  describe('unmount() of a handle', () => {
    test('unmounts once, however often and however concurrently it is called.', async () => {
      const { overlay, target, layers } = await mounted();
      await Promise.all([overlay.unmount(), overlay.unmount(), overlay.unmount()]);
      await overlay.unmount();
      await overlay[Symbol.asyncDispose]();
      expect(mountsAt(target)).toEqual([]);
      await expectFree(layers);
    });

    test('is what `await using` ends with.', async () => {
      const layers = site.layers();
      {
        await using overlay = await mountOverlay(layers);
        expect(mountsAt(layers.target)).toEqual([overlay.target]);
      }
      expect(mountsAt(layers.target)).toEqual([]);
    });

    test('waits for the work that is pending on the handle.', async () => {
      const { overlay } = await mounted();
      const done: string[] = [];
      const pending = [
        overlay.open('hello').then(async (file) => {
          done.push('open');
          await file.close();
        }),
        overlay.openRoot().then((fd) => {
          closeSync(fd);
          done.push('openRoot');
        }),
        overlay.remount({ readonly: true }).then(() => done.push('remount')),
      ];
      await overlay.unmount().then(() => done.push('unmount'));
      await Promise.all(pending);
      expect(done.at(-1)).toBe('unmount');
      expect(done).toHaveLength(4);
    });

    test('leaves every method of the handle saying ERR_OVERLAY_NOT_MOUNTED.', async () => {
      for (const target of [site.layers().target, undefined]) {
        const { lower } = site.layers();
        const overlay = await mountOverlay({
          lower,
          scratch: true,
          ...(target === undefined ? {} : { target }),
        });
        await overlay.unmount();
        const notMounted = overlayError('ERR_OVERLAY_NOT_MOUNTED');
        for (const call of [
          () => overlay.layers(),
          () => overlay.path('hello'),
          () => overlay.pathBytes('hello'),
        ])
          expect(call).toThrow(notMounted);
        for (const call of [
          overlay.open('hello'),
          overlay.openRoot(),
          overlay.attach(lower),
          overlay.remount({ readonly: true }),
        ])
          await expect(call).rejects.toEqual(notMounted);
        expect(overlay.fd).toBeUndefined();
      }
    });

    test('refuses further work while it is under way.', async () => {
      const { overlay } = await mounted();
      const unmounting = overlay.unmount();
      await expect(overlay.open('hello')).rejects.toEqual(overlayError('ERR_OVERLAY_NOT_MOUNTED'));
      await unmounting;
    });

    test('closes a detached view.', async () => {
      const { target, ...layers } = site.layers();
      const view = await mountOverlay(layers);
      await view.unmount();
      await expectFree({ ...layers, target });
    });

    test('removes the target that mkdirTarget made, and none that was there.', async () => {
      const { lower, target } = site.layers();
      for (const [directory, stays] of [
        [join(target, 'made'), false],
        [target, true],
      ] as const) {
        const overlay = await mountOverlay({ lower, scratch: true, target: directory, mkdirTarget: true });
        expect(overlay.report.madeTarget).toBe(!stays);
        await overlay.unmount();
        expect(existsSync(directory)).toBe(stays);
      }
    });

    test('of a view attached later removes the target that was made for it.', async () => {
      const { target, lower } = site.layers();
      const view = await mountOverlay({ lower, scratch: true });
      await view.attach(join(target, 'made'), { mkdirTarget: true });
      expect(mountsAt(target)).toEqual([join(target, 'made')]);
      await view.unmount();
      expect(existsSync(join(target, 'made'))).toBe(false);
    });
  });

  describe('unmount() goes by identity', () => {
    test('of two overlays on one target it takes the one that is meant.', async () => {
      const below = await mounted();
      const above = site.layers();
      writeFileSync(join(above.lower, 'hello'), 'above');
      const upper = await mountOverlay({ ...above, target: below.target });
      const shown = () => readFileSync(join(below.target, 'hello'), 'utf8');

      for (const lazy of [false, true]) {
        await expect(below.overlay.unmount({ lazy })).rejects.toEqual(
          overlayError('ERR_OVERLAY_TARGET_COVERED'),
        );
        expect(shown()).toBe('above');
      }
      await upper.unmount();
      expect(shown()).toBe('from the lower');
      await below.overlay.unmount();
      expect(mountsAt(below.target)).toEqual([]);
    });

    test('an overlay under a foreign mount is left alone until that is gone.', async () => {
      const { overlay, target } = await mounted();
      mount('-t', 'tmpfs', 'cover', target);
      await expect(overlay.unmount()).rejects.toEqual(overlayError('ERR_OVERLAY_TARGET_COVERED'));
      expect(mountsAt(target)).toHaveLength(2);
      umount(target);
      await overlay.unmount();
      expect(mountsAt(target)).toEqual([]);
    });

    test('a moved mount is found where it is now.', async () => {
      const { overlay, target } = await mounted();
      const elsewhere = site.layers().target;
      mount('--move', target, elsewhere);
      expect(mountsAt(elsewhere)).toEqual([elsewhere]);
      await overlay.unmount();
      expect(mountsAt(elsewhere)).toEqual([]);
    });

    test('what has taken the place of a moved mount is not touched.', async () => {
      const moved = await mounted();
      const elsewhere = site.layers().target;
      mount('--move', moved.target, elsewhere);
      const successor = await mountOverlay({ ...site.layers(), target: moved.target });
      await moved.overlay.unmount();
      expect(mountsAt(elsewhere)).toEqual([]);
      expect(mountsAt(moved.target)).toEqual([moved.target]);
      await successor.unmount();
    });

    test('what something else has unmounted is done.', async () => {
      const { overlay, target } = await mounted();
      umount(target);
      await overlay.unmount();
      await expect(overlay.openRoot()).rejects.toEqual(overlayError('ERR_OVERLAY_NOT_MOUNTED'));
    });
  });

  describe('A busy overlay', () => {
    test('is tried again until it is let go.', async () => {
      const { overlay, target, letGo } = await busy();
      const unmounting = overlay.unmount();
      await sleep(30); // long enough for some attempts
      expect(mountsAt(target)).toEqual([target]);
      letGo();
      await unmounting;
      expect(mountsAt(target)).toEqual([]);
    });

    test('is ERR_OVERLAY_BUSY after the timeout, stays mounted and usable, and can be unmounted later.', async () => {
      const { overlay, target, letGo } = await busy();
      for (const timeout of [0, 20]) {
        await expect(overlay.unmount({ timeout })).rejects.toEqual(
          expect.objectContaining({ code: 'ERR_OVERLAY_BUSY', errno: -16, syscall: 'umount2', path: target }),
        );
      }
      expect(readFileSync(overlay.path('hello'), 'utf8')).toBe('from the lower');
      letGo();
      await overlay.unmount();
      expect(mountsAt(target)).toEqual([]);
    });

    test('is given up when the signal aborts, and stays mounted.', async () => {
      const { overlay, target, letGo } = await busy();
      const aborted = new AbortController();
      const unmounting = overlay.unmount({ signal: aborted.signal, timeout: 60_000 });
      setTimeout(() => aborted.abort(new Error('enough')), 20);
      await expect(unmounting).rejects.toThrow('enough');
      await expect(overlay.unmount({ signal: aborted.signal })).rejects.toThrow('enough');
      expect(mountsAt(target)).toEqual([target]);
      letGo();
      await overlay.unmount();
    });

    test('goes at once with `lazy`, but its upper stays in use until the last file is closed.', async () => {
      const { overlay, target, layers, letGo } = await busy();
      await overlay.unmount({ lazy: true });
      expect(mountsAt(target)).toEqual([]);
      await expect(mountOverlay(layers)).rejects.toEqual(overlayError('ERR_OVERLAY_UPPER_IN_USE'));
      letGo();
      await expectFree(layers);
    });

    test('by a mount inside it is ERR_OVERLAY_BUSY.', async () => {
      const { overlay, upper } = await mounted();
      mkdirSync(overlay.path('inside'));
      const inside = await mountOverlay({
        lower: site.layers().lower,
        scratch: true,
        target: overlay.path('inside'),
      });
      await expect(overlay.unmount({ timeout: 0 })).rejects.toEqual(overlayError('ERR_OVERLAY_BUSY'));
      await inside.unmount();
      await overlay.unmount();
      expect(existsSync(join(upper, 'inside'))).toBe(true);
    });

    test('cannot be remounted read-only while a file is open for writing.', async () => {
      const { overlay } = await mounted();
      const file = await overlay.open('hello', 'r+');
      await expect(overlay.remount({ readonly: true })).rejects.toEqual(
        expect.objectContaining({ code: 'ERR_OVERLAY_REMOUNT_FAILED', errno: -16 }),
      );
      await file.close();
      await overlay.remount({ readonly: true });
      expect(() => writeFileSync(overlay.path('hello'), 'x')).toThrow('EROFS');
      await overlay.remount({ readonly: false });
      writeFileSync(overlay.path('hello'), 'x');
      await overlay.unmount();
    });
  });

  describe('A volatile overlay', () => {
    const marker = (work: string) => join(work, 'work/incompat/volatile');

    test('can be mounted again after unmount({ syncVolatile }).', async () => {
      const { overlay, layers, work, upper } = await mounted({ volatile: true });
      writeFileSync(overlay.path('new'), 'kept');
      await overlay.unmount({ syncVolatile: true });
      expect(existsSync(marker(work))).toBe(false);
      expect(readFileSync(join(upper, 'new'), 'utf8')).toBe('kept');
      await expectFree(layers);
    });

    test('leaves the kernel’s marker otherwise, and mounts again only with removeVolatileMarker.', async () => {
      const { overlay, layers, work } = await mounted({ volatile: true });
      await overlay.unmount();
      await expect(mountOverlay(layers)).rejects.toEqual(overlayError('ERR_OVERLAY_VOLATILE_MARKER'));
      expect(existsSync(marker(work))).toBe(true);
      const again = await mountOverlay({ ...layers, removeVolatileMarker: true });
      await again.unmount();
      await expectFree(layers);
    });

    test('cannot be unmounted with both lazy and syncVolatile.', async () => {
      const { overlay, target } = await mounted({ volatile: true });
      await expect(overlay.unmount({ lazy: true, syncVolatile: true })).rejects.toEqual(
        overlayError('ERR_OVERLAY_OPTIONS_CONTRADICT'),
      );
      expect(mountsAt(target)).toEqual([target]);
      await overlay.unmount({ syncVolatile: true });
    });
  });

  describe('unmount(target)', () => {
    test('takes the topmost overlay there, whoever mounted it.', async () => {
      const below = await mounted();
      const above = await mountOverlay({ ...site.layers(), target: below.target });
      await unmount(below.target);
      await above.unmount();
      expect(mountsAt(below.target)).toEqual([below.target]);
      await unmount(Buffer.from(below.target));
      await below.overlay.unmount();
      expect(mountsAt(below.target)).toEqual([]);
    });

    test('waits for a busy one, or detaches it.', async () => {
      const { overlay, target, letGo, layers } = await busy();
      await expect(unmount(target, { timeout: 20 })).rejects.toEqual(overlayError('ERR_OVERLAY_BUSY'));
      await unmount(target, { lazy: true });
      expect(mountsAt(target)).toEqual([]);
      letGo();
      await overlay.unmount();
      await expectFree(layers);
    });

    test('is ERR_OVERLAY_NOT_AN_OVERLAY for anything else, which it leaves alone.', async () => {
      const { overlay, target } = await mounted();
      mkdirSync(overlay.path('directory'));
      const notAnOverlay = overlayError('ERR_OVERLAY_NOT_AN_OVERLAY');
      for (const place of [
        site.root(),
        join(target, '..'),
        join(target, 'directory'),
        join(target, 'none'),
        join(target, 'hello'),
      ])
        await expect(unmount(place), place).rejects.toEqual(notAnOverlay);

      mount('-t', 'tmpfs', 'cover', target);
      await expect(unmount(target)).rejects.toEqual(notAnOverlay);
      expect(mountsAt(target)).toHaveLength(2);
      umount(target);
      await overlay.unmount();
    });
  });

  describe('unmountOnSignals', () => {
    test.each(['SIGKILL', 'SIGSTOP', 'SIGNONE'])('refuses %s before anything is mounted.', async (signal) => {
      const layers = site.layers();
      await expect(
        mountOverlay({ ...layers, unmountOnSignals: [signal as NodeJS.Signals] }),
      ).rejects.toMatchObject({ code: 'ERR_INVALID_ARG_VALUE' });
      expect(mountsAt(layers.target)).toEqual([]);
    });

    test('listens from the first mount to the last unmount.', async () => {
      const listeners = () => process.listenerCount('SIGUSR2');
      const before = listeners();
      const overlays = await Promise.all(
        [1, 2].map(() => mountOverlay({ ...site.layers(), unmountOnSignals: ['SIGUSR2'] })),
      );
      for (const overlay of overlays) {
        expect(listeners()).toBe(before + 1);
        await overlay.unmount();
      }
      const missing = { ...site.layers(), target: '/does/not/exist' };
      await expect(mountOverlay({ ...missing, unmountOnSignals: ['SIGUSR2'] })).rejects.toThrow();
      // It stops only when no signal can be on its way any more.
      await vi.waitFor(() => expect(listeners()).toBe(before));
    });
  });
});
