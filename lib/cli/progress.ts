/**
 * How far long work has come, on a terminal.
 * @module
 */
import { formatBytes } from '../changes/summary.ts';

/** What has been done, as far as it can be told. */
export interface Done {
  readonly entries: number;
  /** Of how many. */
  readonly of?: number;
  readonly bytes?: bigint;
}

/** Nobody wants to be told of what is over at once. */
const QUIET_MS = 1000;

/**
 * Does the work, and says once a second on standard error, if that is a terminal, what is done and for how long; the line goes
 * when the work has ended.
 */
export async function withProgress<T>(
  what: string,
  work: (onProgress: (done: Done) => void) => Promise<T>,
): Promise<T> {
  const { stderr } = process;
  if (!stderr.isTTY) return work(() => {});
  const started = performance.now();
  let done: Done | undefined;
  const timer = setInterval(() => {
    const seconds = Math.round((performance.now() - started) / 1000);
    stderr.write(`\r\x1b[K${what}: ${[...howMuch(done), `${seconds} s`].join(', ')}`);
  }, QUIET_MS);
  try {
    return await work((now) => {
      done = now;
    });
  } finally {
    clearInterval(timer);
    if (performance.now() - started >= QUIET_MS) stderr.write('\r\x1b[K');
  }
}

function howMuch(done: Done | undefined): string[] {
  if (done === undefined) return [];
  const { entries, of, bytes } = done;
  return [
    of === undefined ? `${entries} entries` : `${entries} of ${of}`,
    ...(bytes === undefined ? [] : [formatBytes(bytes)]),
  ];
}
