/** What every refusal must be: explained, and as if nothing had been asked. */
import { expect } from 'vitest';
import { OverlayError } from '../../lib/index.ts';
import { openFiles, type Scratch } from './scratch.ts';
import { snapshot } from './snapshot.ts';

/**
 * Expects `attempt` to fail with this code, a reason and a way out, and to leave every file with every attribute, every
 * mount and every descriptor as it was.
 */
export async function expectRefusal(
  scratch: Scratch,
  code: string,
  attempt: () => Promise<unknown>,
  { asNobody = false }: { readonly asNobody?: boolean } = {},
): Promise<OverlayError> {
  const world = async () => ({
    files: await snapshot(scratch.root),
    mounts: scratch.mounts(),
    open: openFiles(),
  });
  const before = await world();
  if (asNobody) process.seteuid?.(65534);
  const error = await attempt()
    .then(
      () => undefined,
      (reason: unknown) => reason,
    )
    .finally(() => asNobody && process.seteuid?.(0));
  expect(await world()).toEqual(before);
  if (!(error instanceof OverlayError)) throw error ?? new Error(`${code} expected, and nothing was refused`);
  expect(error.findings[0]).toEqual({
    code,
    severity: 'error',
    detail: expect.stringMatching(/./),
    fix: expect.stringMatching(/./),
    ...(error.findings[0]?.path === undefined ? {} : { path: expect.stringMatching(/./) }),
  });
  expect(error.message).toContain(error.findings[0]?.fix);
  expect(error.code).toBe(code);
  expect(error.errno ?? -1).toBeLessThan(0);
  return error;
}
