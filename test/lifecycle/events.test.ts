import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { expect, test } from 'vitest';
import { mountOverlay, unmount } from '../../lib/index.ts';
import { lifecycle, program, run } from './support.ts';

lifecycle('Events', (site) => {
  /** What the channels of this package tell of one target while `work` runs. */
  async function heard(target: string | undefined, work: () => Promise<unknown>): Promise<unknown[]> {
    const events: unknown[] = [];
    const listen = (message: unknown, channel: string | symbol) => {
      if ((message as { target?: string }).target === target) events.push([channel, message]);
    };
    const channels = ['overlayfs:mount', 'overlayfs:unmount'];
    for (const channel of channels) subscribe(channel, listen);
    try {
      await work();
    } finally {
      for (const channel of channels) unsubscribe(channel, listen);
    }
    return events;
  }

  const source = expect.stringMatching(/^overlayfs:/);
  const duration = expect.any(Number);
  const error = (code: string) => expect.objectContaining({ name: 'OverlayError', code });

  test('A mount and its unmount are told, once each.', async () => {
    const layers = site.layers();
    const { target } = layers;
    let rung = '';
    const events = await heard(target, async () => {
      const overlay = await mountOverlay(layers);
      rung = overlay.report.rung;
      await Promise.all([overlay.unmount(), overlay.unmount()]);
    });
    expect(events).toEqual([
      ['overlayfs:mount', { target, source, duration, rung }],
      ['overlayfs:unmount', { target, lazy: false, duration }],
    ]);
  });

  test('A detached view is told without a target, a lazy unmount as lazy.', async () => {
    const { lower } = site.layers();
    const events = await heard(undefined, async () => {
      const view = await mountOverlay({ lower, scratch: true });
      await view.unmount({ lazy: true });
    });
    expect(events).toEqual([
      ['overlayfs:mount', { source, duration, rung: expect.any(String) }],
      ['overlayfs:unmount', { lazy: true, duration }],
    ]);
  });

  test('Failures are told with their error.', async () => {
    const layers = site.layers();
    const { target } = layers;
    const events = await heard(target, async () => {
      await mountOverlay({ ...layers, lower: `${layers.lower}/none` }).catch(() => {});
      await unmount(target).catch(() => {});
    });
    expect(events).toEqual([
      ['overlayfs:mount', { target, source, duration, error: error('ERR_OVERLAY_LAYER_NOT_FOUND') }],
      ['overlayfs:unmount', { target, lazy: false, duration, error: error('ERR_OVERLAY_NOT_AN_OVERLAY') }],
    ]);
  });

  test('NODE_DEBUG=overlayfs prints the events, and without it nothing is printed.', async () => {
    const layers = site.layers();
    const command = program('mount', [layers]);
    const quiet = await run(command);
    expect(quiet).toMatchObject({ code: 0, stderr: '' });
    const { code, stderr } = await run(command, { NODE_DEBUG: 'overlayfs' });
    expect(code).toBe(0);
    expect(stderr).toMatch(/^OVERLAYFS \d+: overlayfs:mount \{/m);
    expect(stderr).toContain(`target: '${layers.target}'`);
  });
});
