import { expect, test } from 'vitest';
import { lifecycle, program, runJson } from './support.ts';

lifecycle('Leaks', (site) => {
  const cycles = Number(process.env.OVERLAYFS_TEST_CYCLES ?? 600);
  const timeScale = Number(process.env.OVERLAYFS_TEST_TIME_SCALE ?? 1);

  interface Growth {
    descriptors: number;
    rss: number;
    mounted: number;
  }

  test(`${cycles} mounts and unmounts, failures among them, leave descriptors and memory as they were.`, {
    timeout: (30_000 + cycles * 50) * timeScale,
  }, async () => {
    const { rss, ...growth } = await runJson<Growth>(
      program('cycles', { cycles, layers: site.layers() }, '--expose-gc'),
      // In a sanitized run what is freed would be kept for a while.
      { ASAN_OPTIONS: `${process.env.ASAN_OPTIONS ?? ''}:quarantine_size_mb=1` },
    );
    expect(growth).toEqual({ descriptors: 0, mounted: 0 });
    // A leak of 4 kB in each cycle would be seen over 10,000; what V8 itself keeps is no leak.
    expect(rss).toBeLessThan(32 * 2 ** 20);
  });
});
