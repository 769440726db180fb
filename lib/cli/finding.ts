/**
 * Findings as a command prints them.
 * @module
 */
import type { Finding } from '../types.ts';
import { inFlags } from './mount-flags.ts';
import { type Paint, printable } from './output.ts';

const colours = { error: 'red', warning: 'yellow', info: 'cyan' } as const;

/** What, why and fix: a line each. */
export function findingText({ severity, code, detail, fix }: Finding, paint: Paint): string {
  return [
    `${paint(colours[severity], severity)}: ${code}`,
    `  ${paint('bold', 'why:')} ${printable(detail)}`,
    `  ${paint('bold', 'fix:')} ${printable(inFlags(fix))}`,
  ].join('\n');
}
