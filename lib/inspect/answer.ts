/**
 * One answer of a capability report.
 * @module
 */

/** Whether something is to be had, why, and how that is known. */
export interface Answer {
  readonly ok: boolean;
  readonly reason: string;
  /** What was tried or read, and what came of it. */
  readonly evidence: string;
  /** The Linux version that brought it, for orientation: the answer itself was found by trying. */
  readonly since?: string;
}

/** It is to be had. */
export const yes = (reason: string, evidence: string): Answer => ({ ok: true, reason, evidence });

/** It is not. */
export const no = (reason: string, evidence: string): Answer => ({ ok: false, reason, evidence });

/** It was tried. */
export function answer(ok: boolean, what: string, evidence: string, since?: string): Answer {
  return { ok, reason: ok ? what : `no ${what}`, evidence, ...(since === undefined ? {} : { since }) };
}
