import { expect, test } from 'vitest';
import { expectFree, lifecycle, mountsAt, program, run } from './support.ts';

lifecycle('Workers', (site) => {
  test.each([
    ['Eight workers at once load the addon, mount, unmount and end.', { rounds: 2, terminate: false }],
    [
      'Eight workers terminated at any moment leave nothing, and the process ends well.',
      { rounds: 6, terminate: true },
    ],
  ])('%s', async (_, spec) => {
    const layers = Array.from({ length: 8 }, () => site.layers());
    const ended = await run(program('workers', { ...spec, layers }));
    expect(ended).toEqual({ code: 0, signal: null, stdout: '[]\n', stderr: '' });
    expect(mountsAt(site.root())).toEqual([]);
    await Promise.all(layers.map(expectFree));
  });
});
