/**
 * What is told of an overlay that a command has mounted.
 * @module
 */
import type { Overlay } from '../overlay/overlay.ts';
import type { MountReport } from '../overlay/report.ts';
import { type Paint, printable } from './output.ts';

/** Where it is, how it was made, and what is worth knowing of that. */
export function mounted(overlay: Overlay, paint: Paint): { readonly text: string; readonly json: object } {
  const { target = '', targetBytes, mountId, plan, report } = overlay;
  return {
    text: [`${printable(target)} mounted by ${report.rung}`, ...remarks(report, paint)].join('\n'),
    json: { target, targetBytes, mountId, report, plan },
  };
}

function remarks({ fallbacks, degradations, unverified }: MountReport, paint: Paint): string[] {
  return [
    ...fallbacks.map(({ rung, reason }) => `${paint('dim', 'not by')} ${rung}: ${reason}`),
    ...[...degradations, ...unverified].map(
      ({ code, detail, fix }) => `${paint('yellow', code)} ${detail}. ${fix}`,
    ),
  ];
}
