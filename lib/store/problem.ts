/**
 * Something wrong in a store, with what would mend it.
 * @module
 */
import type { Step } from './steps.ts';
import type { StoreFinding } from './types.ts';

/** A finding before anything has been done about it. */
export interface Problem {
  readonly finding: Omit<StoreFinding, 'repairable' | 'repaired'>;
  /** What mends it; absent: nothing can without losing something. */
  readonly repair?: readonly Step[];
  /** How what it is about is used after all, so that nothing is wrong. Asked before it is told, and again before it is mended. */
  readonly use?: () => Promise<string | undefined>;
}

/** A layer that cannot be mounted as it is. */
export function damage(id: string, path: string, detail: string, repair?: readonly Step[]): Problem {
  return {
    finding: {
      code: 'ERR_OVERLAY_STORE_LAYER_DAMAGED',
      severity: 'error',
      id,
      path,
      detail,
      fix:
        repair === undefined
          ? 'Restore it from elsewhere, or remove the layer with all that lies on it'
          : 'check({ repair: true }) mends it',
    },
    ...(repair === undefined ? {} : { repair }),
  };
}

/** What does no harm but is not as it should be. */
export function untidiness(
  code: 'WARN_OVERLAY_STORE_LINK' | 'WARN_OVERLAY_STORE_LEFTOVER' | 'WARN_OVERLAY_STORE_MARK',
  path: string,
  detail: string,
  repair: readonly Step[],
  id?: string,
): Problem {
  return {
    finding: {
      code,
      severity: 'warning',
      ...(id === undefined ? {} : { id }),
      path,
      detail,
      fix: 'check({ repair: true }) mends it',
    },
    repair,
  };
}
