/**
 * Which options this kernel refuses, where it does not say so itself.
 * @module
 */
import { constants } from 'node:os';
import { binding } from '../addon.ts';
import type { KernelFeatures, NativePlan } from '../native/binding.ts';

/** An option that is refused. */
export interface RefusedOption {
  readonly key: string;
  readonly value: Buffer | null;
  /** It takes another value. */
  readonly known: boolean;
}

// One of these is right for every option that overlayfs has ever had.
const values = [...['on', 'off', 'auto', 'volatile'].map((value) => Buffer.from(value)), null];

/**
 * Before Linux 6.5 the kernel says of a whole mount that something is invalid: each option is tried alone then, on an
 * overlay that is thrown away. Later kernels name the option.
 */
export async function refusedOptions(
  { options }: NativePlan,
  { nativeParser, fsopenErrno, sysAdmin }: KernelFeatures,
): Promise<readonly RefusedOption[]> {
  if (nativeParser || fsopenErrno !== 0 || !sysAdmin) return [];
  const refused = await refusals(options);
  return Promise.all(
    refused.map(async ([key, value]) => {
      const tried = values.map((other) => [key, other] as const);
      return { key, value, known: (await refusals(tried)).length < tried.length };
    }),
  );
}

async function refusals(options: NativePlan['options']): Promise<NativePlan['options']> {
  // What cannot be tried is not known to be refused.
  const errnos = await binding()
    .tryOptions(options)
    .catch(() => []);
  return options.filter((_, i) => errnos[i] === -constants.errno.EINVAL);
}
