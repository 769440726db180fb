import { expect, test } from 'vitest';
import { unmount, unmountOrphans } from '../../lib/index.ts';
import type { Layers } from '../support/scratch.ts';
import { type Ended, expectFree, lifecycle, mountsAt, program, run } from './support.ts';

lifecycle('The end of a process', (site) => {
  /** Where in an overlay's life the child ends. */
  const steps = {
    before: 'before it mounts',
    mounting: 'while a mount is under way',
    mounted: 'with an overlay mounted',
    file: 'with a file open inside',
    cwd: 'with its working directory inside',
    unmounting: 'while an unmount is under way',
  };
  type Step = keyof typeof steps;

  const outcomes = {
    gone: 'leaves nothing mounted',
    lazy: 'detaches the busy mount lazily, with a warning',
    left: 'leaves the mount for unmountOrphans()',
    racing: 'leaves nothing, or the mount for unmountOrphans()',
  };
  type Outcome = keyof typeof outcomes;
  type Outcomes = Readonly<Partial<Record<Step, Outcome>>>;

  const byGate: Outcomes = {
    before: 'gone',
    mounting: 'gone',
    mounted: 'gone',
    file: 'lazy',
    cwd: 'lazy',
    unmounting: 'gone',
  };
  const killed: Outcomes = {
    before: 'gone',
    mounting: 'racing',
    mounted: 'left',
    file: 'left',
    cwd: 'left',
    unmounting: 'racing',
  };
  // A worker has no working directory of its own; its files are closed after it, when nobody can be warned any more.
  const byWorker: Outcomes = {
    before: 'gone',
    mounting: 'gone',
    mounted: 'gone',
    file: 'gone',
    unmounting: 'gone',
  };

  interface Way {
    readonly name: string;
    readonly spec: Readonly<Record<string, unknown>>;
    readonly unmountOnSignals?: readonly NodeJS.Signals[];
    readonly end: Partial<Ended>;
    readonly outcomes: Outcomes;
  }

  const ways: readonly Way[] = [
    { name: 'A process that ends normally', spec: { way: 'return' }, end: { code: 0 }, outcomes: byGate },
    { name: 'process.exit()', spec: { way: 'exit' }, end: { code: 0 }, outcomes: byGate },
    { name: 'An uncaught exception', spec: { way: 'throw' }, end: { code: 1 }, outcomes: byGate },
    { name: 'An unhandled rejection', spec: { way: 'reject' }, end: { code: 1 }, outcomes: byGate },
    signalled('SIGTERM', false),
    signalled('SIGTERM', true),
    signalled('SIGINT', true),
    signalled('SIGKILL', false),
    inWorker('A worker that ends normally', 'return'),
    inWorker('process.exit() in a worker', 'exit'),
    inWorker('An uncaught exception in a worker', 'throw'),
    inWorker('worker.terminate()', 'terminate'),
    inWorker('process.exit() while a worker has the mount', 'main exit'),
  ];

  function signalled(signal: NodeJS.Signals, handled: boolean): Way {
    return {
      name: `${signal}${handled ? ' with unmountOnSignals' : ''}`,
      spec: { way: 'signal', signal },
      ...(handled ? { unmountOnSignals: [signal] } : {}),
      end: { signal },
      outcomes: handled ? byGate : killed,
    };
  }

  function inWorker(name: string, way: string): Way {
    return { name, spec: { way, inWorker: true }, end: { code: 0 }, outcomes: byWorker };
  }

  async function endChild(way: Way, step: Step, options: Partial<Layers> & { keepOnExit?: true }) {
    const { unmountOnSignals } = way;
    const ended = await run(program('end', { ...way.spec, step, options: { ...options, unmountOnSignals } }));
    expect(ended).toMatchObject(way.end);
    return ended;
  }

  for (const way of ways) {
    for (const [step, outcome] of Object.entries(way.outcomes) as [Step, Outcome][]) {
      test(`${way.name} ${steps[step]} ${outcomes[outcome]}.`, async () => {
        const layers = site.layers();
        const { stderr } = await endChild(way, step, layers);
        if (outcome === 'lazy') expect(stderr).toMatch(/OverlayWarning: .* busy .* detached lazily/);
        else expect(stderr).not.toContain('OverlayWarning');

        const left = mountsAt(layers.target).length === 1;
        if (outcome !== 'racing') expect(left).toBe(outcome === 'left');
        if (left) {
          expect(await unmountOrphans({ dryRun: true })).toContainEqual(
            expect.objectContaining({ target: layers.target, state: 'orphan' }),
          );
          await unmount(layers.target);
        }
        await expectFree(layers);
      });
    }

    test(`${way.name} takes a detached view with it, though a file is open inside.`, async () => {
      const { target, ...layers } = site.layers();
      await endChild(way, 'file', layers);
      await expectFree({ ...layers, target });
    });

    if (way.unmountOnSignals === undefined) {
      test(`${way.name} leaves an overlay with keepOnExit mounted, and as nobody's orphan.`, async () => {
        const layers = site.layers();
        await endChild(way, 'mounted', { ...layers, keepOnExit: true });
        expect(mountsAt(layers.target)).toEqual([layers.target]);
        const orphans = await unmountOrphans({ dryRun: true });
        expect(orphans.map(({ target }) => target)).not.toContain(layers.target);
        await unmount(layers.target);
        await expectFree(layers);
      });
    }
  }

  // on() or once(), the program decides.
  test.each(['on', 'once'])(
    'A signal that the program listens to with process.%s() unmounts and is not raised again.',
    async (listens) => {
      const layers = site.layers();
      const spec = { way: 'signal', signal: 'SIGTERM', listens, step: 'mounted' };
      const options = { ...layers, unmountOnSignals: ['SIGTERM'] };
      const ended = await run(program('end', { ...spec, options }));
      expect(ended).toEqual({ code: 0, signal: null, stdout: 'heard while unmounted\n', stderr: '' });
      await expectFree(layers);
    },
  );
});
