/**
 * Why a mount fails: every rule once, with its code, its condition, what is the case and the way out.
 * @module
 */
import { type ErrorCode, errorFinding } from '../errors.ts';
import type { KernelFeatures, MountStep, NativeMountFailure, NativePlan } from '../native/binding.ts';
import type { Finding } from '../types.ts';
import { kernelRules } from './kernel-rules.ts';
import type { Layer } from './layer-facts.ts';
import { layerRules } from './layer-rules.ts';

/** What the rules look at. */
export interface Evidence {
  readonly plan: NativePlan;
  readonly features: KernelFeatures;
  /** Every layer that the caller named, in the order lower, data-only, upper, work. */
  readonly layers: readonly Layer[];
  /** What the mount came to; absent when nothing has been tried. */
  readonly failure?: NativeMountFailure;
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

/** Everything that the rules find, most telling first. */
export function findings(evidence: Evidence): Finding[] {
  const rules = [...layerRules, ...kernelRules];
  const failed = rules.filter(({ step }) => step !== undefined && step === evidence.failure?.step);
  const others = rules.filter((rule) => !failed.includes(rule));
  return [...failed, ...others].flatMap(({ code, find, fix }) =>
    find(evidence).map(({ detail, path }) => errorFinding(code, detail, fix, path)),
  );
}
