/**
 * Finds the `.node` file, and keeps what it tried. Says nothing of errors: `../addon.ts` does.
 * @module
 */
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Binding } from './binding.ts';

const require = createRequire(import.meta.url);
const packageRoot = fileURLToPath(new URL('../..', import.meta.url));

/** The addon, or every file that was tried and what came of it. */
export type Loaded =
  | { readonly binding: Binding }
  | { readonly binding?: undefined; readonly tried: readonly string[]; readonly cause?: unknown };

/** Loads the file that OVERLAYFS_NATIVE names, else what was compiled here, else the prebuild that fits. */
export function load(): Loaded {
  const named = process.env.OVERLAYFS_NATIVE;
  const files = named === undefined || named === '' ? candidates() : [named];
  const tried: string[] = [];
  let cause: unknown;
  for (const file of files) {
    try {
      return { binding: require(file) as Binding };
    } catch (error) {
      cause = error;
      tried.push(`${file}: ${error instanceof Error ? error.message.split('\n')[0] : String(error)}`);
    }
  }
  return { tried: tried.length > 0 ? tried : [`${join(packageRoot, 'prebuilds')}: no prebuild fits`], cause };
}

// node-gyp-build knows which prebuild fits this platform, architecture and C library.
function candidates(): string[] {
  const compiled = join(packageRoot, 'build/Release/overlayfs.node');
  const found = existsSync(compiled) ? [compiled] : [];
  try {
    const { path } = require('node-gyp-build') as { path(directory: string): string };
    found.push(path(packageRoot));
  } catch {
    // It throws when nothing fits: nothing is added then.
  }
  return [...new Set(found)];
}
