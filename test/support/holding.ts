/** Processes that hold something, and have come to rest. */
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Waiting, waitingShell } from './child.ts';

/**
 * A shell that has done what the script says, and has then become `cat` and waits: what it says of itself in /proc does
 * not change any more.
 */
export async function waitingCat(script: string, through: readonly string[] = []): Promise<Waiting> {
  const shell = await waitingShell(script, through);
  while (!/ \(cat\) S /.test(readFileSync(`/proc/${shell.pid}/stat`, 'latin1'))) await sleep(1);
  return shell;
}
