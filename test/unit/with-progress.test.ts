// What a progress callback throws: no exception that nobody can catch, but the end of the work, and the call's own error.
import { setTimeout as wait } from 'node:timers/promises';
import { expect, it, vi } from 'vitest';
import { withProgress } from '../../lib/layer/copy-up-stream.ts';

const nothing = () => ({ entries: 0, bytes: 0n });

it('stops the work at the first thing that the callback throws, and rejects with it', async () => {
  const thrown = new Error('from progress');
  const progress = vi.fn(() => {
    throw thrown;
  });
  const stop = vi.fn();
  await expect(withProgress(progress, nothing, wait(350), stop)).rejects.toBe(thrown);
  expect([progress, stop].map((one) => one.mock.calls.length)).toEqual([1, 1]);
});

it('rejects with what the last call throws, when the work is done', async () => {
  const thrown = new Error('from progress');
  const attempt = withProgress(
    () => {
      throw thrown;
    },
    nothing,
    Promise.resolve(1),
  );
  await expect(attempt).rejects.toBe(thrown);
});
