/** Whether this process may mount: a file of its own, since vitest's configuration asks too. */
import { readFileSync } from 'node:fs';

const CAP_SYS_ADMIN = 21n;

/** It is root, with CAP_SYS_ADMIN in effect. */
export const privileged = process.geteuid?.() === 0 && hasCapability(CAP_SYS_ADMIN);

function hasCapability(capability: bigint): boolean {
  const effective = /^CapEff:\s*([0-9a-f]+)$/m.exec(readFileSync('/proc/self/status', 'latin1'))?.[1] ?? '0';
  return ((BigInt(`0x${effective}`) >> capability) & 1n) === 1n;
}
