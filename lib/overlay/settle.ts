/**
 * The defaults: options that depend on one another, settled whatever the kernel module's own defaults are.
 * @module
 */
import type { KernelFeatures } from '../native/binding.ts';
import type { CheckedOptions } from './options.ts';

/** The options that depend on one another. */
export interface SettledOptions {
  /** It has an upper, the caller's or a scratch one. */
  readonly writable: boolean;
  readonly index: boolean;
  readonly nfsExport: boolean;
  readonly xino: 'on' | 'off' | 'auto';
  readonly metacopy: boolean;
  readonly redirectDir: 'on' | 'follow' | 'nofollow';
  readonly userxattr: boolean;
  /** The kernel takes no single lower without an upper, data-only layers counted: an empty one is wanted. */
  readonly needsSecondLower: boolean;
}

/** Settles them. `demandsMetacopy`: this kernel takes the verity or data-only layers asked for only with it. */
export function settle(
  options: CheckedOptions,
  features: KernelFeatures,
  demandsMetacopy: boolean,
): SettledOptions {
  const writable = options.upper !== undefined || options.scratch !== undefined;
  const nfsExport = options.nfsExport ?? false;
  const userxattr = options.userxattr ?? !features.initialUserNamespace;
  const metacopy = options.metacopy ?? (demandsMetacopy && !userxattr);
  return {
    writable,
    index: options.index ?? nfsExport,
    nfsExport,
    xino: options.xino ?? 'off',
    metacopy,
    redirectDir: options.redirectDir ?? (userxattr ? 'nofollow' : metacopy ? 'on' : 'follow'),
    userxattr,
    needsSecondLower: !writable && options.lower.length + options.dataOnlyLower.length === 1,
  };
}
