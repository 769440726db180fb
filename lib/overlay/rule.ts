/**
 * What a rule is: one thing that can be wrong with a mount, and the evidence that it looks at.
 * @module
 */
import type { ErrorCode } from '../errors.ts';
import type {
  DirectoryFacts,
  KernelFeatures,
  MountStep,
  NativeMountFailure,
  NativePlan,
  NativeRehearsal,
} from '../native/binding.ts';
import type { Layer } from './layer-facts.ts';
import type { RefusedOption } from './refused-options.ts';

/** What the rules look at. */
export interface Evidence {
  readonly plan: NativePlan;
  readonly features: KernelFeatures;
  /** Every layer that the caller named, in the order lower, data-only, upper, work. */
  readonly layers: readonly Layer[];
  /** What the mount, or its rehearsal, came to; absent when nothing failed. */
  readonly failure?: NativeMountFailure;
  /** What a rehearsal found; absent when the mount itself was tried. */
  readonly rehearsal?: NativeRehearsal;
  /** The options that this kernel refuses, found by trying where it names none (before Linux 6.5). */
  readonly refusedOptions?: readonly RefusedOption[];
  /** The target as a rehearsal finds it. */
  readonly target?: DirectoryFacts;
}

/** One thing that can be wrong. */
export interface Rule {
  readonly code: ErrorCode;
  /** The step at which this is what fails: there it speaks before all others. */
  readonly step?: MountStep;
  /** Everything in the evidence that it applies to; nothing when all is well. */
  readonly find: (evidence: Evidence) => readonly Instance[];
  readonly fix: string;
}

/** One place where a rule applies. */
export interface Instance {
  readonly detail: string;
  readonly path?: string | undefined;
}
