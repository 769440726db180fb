/**
 * Why a mount fails: every rule once, with its code, its condition, what is the case and the way out.
 * @module
 */
import { errorFinding } from '../errors.ts';
import type { MountStep } from '../native/binding.ts';
import type { Finding } from '../types.ts';
import { kernelRules } from './kernel-rules.ts';
import { layerRules } from './layer-rules.ts';
import type { Evidence } from './rule.ts';

// What the kernel takes in silence is no reason for a mount that did not look for it to fail.
const ownSteps: readonly (MountStep | undefined)[] = ['check-upper', 'check-in-lower'];

/** Everything that the rules find, most telling first. */
export function findings(evidence: Evidence): Finding[] {
  const every = [...layerRules, ...kernelRules];
  const rules = evidence.plan.policy ? every : every.filter(({ step }) => !ownSteps.includes(step));
  const failed = rules.filter(({ step }) => step !== undefined && step === evidence.failure?.step);
  const others = rules.filter((rule) => !failed.includes(rule));
  return [...failed, ...others].flatMap(({ code, find, fix }) =>
    find(evidence).map(({ detail, path }) => errorFinding(code, detail, fix, path)),
  );
}
