import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { copyUp } from '../../lib/index.ts';
import type { Layers } from '../support/scratch.ts';
import { expectFree, lifecycle, mountsAt, program, run } from './support.ts';

lifecycle('A copy-up under way', (site) => {
  const files = 4000;

  /** Layers whose lower takes long to copy up. */
  function filled(): Layers {
    const layers = site.layers();
    mkdirSync(join(layers.lower, 'd'));
    for (let i = 0; i < files; i++) writeFileSync(join(layers.lower, `d/${i}`), `${i}`.repeat(1000));
    return layers;
  }

  /** How many files are in the upper, each of them whole. */
  function whole({ lower, upper }: Layers): number {
    const names = readdirSync(join(upper, 'd'));
    const content = (layer: string, name: string) => readFileSync(join(layer, 'd', name), 'latin1');
    expect(names.filter((name) => content(upper, name) !== content(lower, name))).toEqual([]);
    return names.length;
  }

  test.each([
    { way: 'exit', inWorker: false, mounted: false },
    { way: 'throw', inWorker: false, mounted: false },
    { way: 'exit', inWorker: false, mounted: true },
    { way: 'terminate', inWorker: true, mounted: false },
    { way: 'exit', inWorker: true, mounted: false },
    { way: 'terminate', inWorker: true, mounted: true },
  ])(
    'stops and leaves whole files when its environment ends ($way, worker: $inWorker, mounted: $mounted).',
    async (spec) => {
      const layers = filled();
      const { code, signal, stdout } = await run(program('copy-up', { ...spec, layers }));
      expect({ code, signal }).toEqual({
        code: spec.way === 'throw' && !spec.inWorker ? 1 : 0,
        signal: null,
      });
      if (spec.inWorker) expect(JSON.parse(stdout)).toEqual([]);
      expect(whole(layers)).toBeLessThan(files / 2);
      expect(mountsAt(site.root())).toEqual([]);
      const { target: _, ...stack } = layers;
      await copyUp(stack, '/', { recursive: true });
      expect(whole(layers)).toBe(files);
      expect(['work']).toEqual(expect.arrayContaining(readdirSync(layers.work)));
      await expectFree(layers);
    },
  );
});
