import { afterAll, beforeAll, expect, test } from 'vitest';
import { mountOverlay, type OverlayOptions, unmountOrphans } from '../../lib/index.ts';
import { type Waiting, waitingShell } from '../support/child.ts';
import type { Layers } from '../support/scratch.ts';
import { lifecycle, mountsAt, program, type Running, run, runJson, start } from './support.ts';

lifecycle('Orphans', (site) => {
  // A real sweep takes every orphan that it sees, so it runs in a mount namespace of its own; what it has copied of other
  // tests' mounts is let go at once.
  const letGo = 'findmnt -n -l -t overlay -o TARGET | xargs -r umount --lazy || true';
  let namespace: Waiting;
  const enter = () => ['nsenter', `--mount=/proc/${namespace.pid}/ns/mnt`];
  const mounted = (at: string) => mountsAt(at, namespace.pid).length > 0;
  beforeAll(async () => {
    namespace = await waitingShell(letGo, ['unshare', '--mount', '--propagation', 'private']);
  });
  afterAll(() => namespace[Symbol.asyncDispose]());

  type Options = Partial<Omit<OverlayOptions, 'signal'>>;

  async function startOwner(...overlays: (Layers & Options)[]): Promise<Running> {
    const owner = start([...enter(), ...program('mount', overlays)]);
    await owner.says('mounted');
    return owner;
  }

  /** Mounts in a process that is then killed. */
  async function leave(...overlays: (Layers & Options)[]): Promise<void> {
    const owner = await startOwner(...overlays);
    owner.child.kill('SIGKILL');
    await owner.ended;
  }

  /** What unmountOrphans() says there of this test's targets; its command is run by `around`. */
  async function sweep(
    options: { dryRun?: boolean } = {},
    ...around: string[]
  ): Promise<Record<string, string>> {
    const command = [...enter(), ...around, ...program('sweep', options)];
    const states = await runJson<Record<string, string>>(command);
    return Object.fromEntries(Object.entries(states).filter(([target]) => target.startsWith(site.root())));
  }

  test('unmountOrphans() unmounts what a killed process has left, and with dryRun only says so.', async () => {
    const layers = site.layers();
    await leave(layers);
    expect(await sweep({ dryRun: true })).toEqual({ [layers.target]: 'orphan' });
    expect(mounted(layers.target)).toBe(true);
    expect(await sweep()).toEqual({ [layers.target]: 'unmounted' });
    expect(mounted(layers.target)).toBe(false);
    expect(await sweep()).toEqual({});
  });

  test('unmountOrphans() takes the upper of two orphans on one target first.', async () => {
    const below = site.layers();
    await leave(below, { ...site.layers(), target: below.target });
    expect(await sweep()).toEqual({ [below.target]: 'unmounted' });
    expect(mounted(below.target)).toBe(false);
  });

  test('unmountOrphans() does not touch what a live process has mounted.', async () => {
    const layers = site.layers();
    const owner = await startOwner(layers);
    expect(await sweep()).toEqual({ [layers.target]: 'alive' });
    expect(mounted(layers.target)).toBe(true);
    owner.child.stdin?.end();
    expect(await owner.ended).toMatchObject({ code: 0, stderr: '' });
    expect(mounted(layers.target)).toBe(false);
  });

  test.each([
    ['another pid namespace', ['unshare', '--pid', '--fork', '--mount-proc']],
    ['another time namespace', ['unshare', '--time', '--fork']],
    ['a pid namespace whose /proc is another’s', ['unshare', '--pid', '--fork']],
  ])('unmountOrphans() in %s cannot tell, and leaves it alone.', async (_, around) => {
    const layers = site.layers();
    await leave(layers);
    expect(await sweep({}, ...around)).toEqual({ [layers.target]: 'unknown' });
    expect(mounted(layers.target)).toBe(true);
    expect(await sweep()).toEqual({ [layers.target]: 'unmounted' });
  });

  test('unmountOrphans() never lists what has keepOnExit or a source of its own.', async () => {
    const kept = site.layers();
    const named = site.layers();
    await leave({ ...kept, keepOnExit: true }, { ...named, source: 'mine' });
    expect(await sweep()).toEqual({});
    for (const { target } of [kept, named]) {
      expect(mounted(target)).toBe(true);
      await run([...enter(), 'umount', target]);
    }
  });

  test('unmountOrphans() reports an orphan that is busy, and leaves it mounted.', async () => {
    const layers = site.layers();
    await leave(layers);
    const holder = await waitingShell(`cd '${layers.target}'`, enter());
    expect(await sweep()).toEqual({ [layers.target]: 'failed: ERR_OVERLAY_BUSY' });
    expect(mounted(layers.target)).toBe(true);
    await holder[Symbol.asyncDispose]();
    expect(await sweep()).toEqual({ [layers.target]: 'unmounted' });
  });

  test('An owner is told by its pid namespace, its time namespace, its pid and its start time.', async () => {
    const { plan } = await mountOverlay({ lower: site.layers().lower, scratch: true }).then(async (view) => {
      await view.unmount();
      return view;
    });
    const own = plan.source.split(':').slice(1).map(Number);
    const pastEveryPid = 2 ** 23;
    const states = ['unknown', 'unknown', 'orphan', 'orphan', 'alive'];
    for (const [changed, state] of states.entries()) {
      const layers = site.layers();
      const owner = own.map((part, i) => (i === changed ? part + pastEveryPid : part));
      await using overlay = await mountOverlay({ ...layers, source: `overlayfs:${owner.join(':')}` });
      expect(await unmountOrphans({ dryRun: true })).toContainEqual(
        expect.objectContaining({ target: layers.target, mountId: overlay.mountId, state }),
      );
    }
  });

  test('unmountOrphans() refuses an option that it does not know.', async () => {
    await expect(unmountOrphans({ dryrun: true } as object)).rejects.toMatchObject({
      code: 'ERR_INVALID_ARG_VALUE',
    });
  });
});
