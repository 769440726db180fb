/**
 * Finds the native addon, and says everything that it tried when it cannot.
 * @module
 */
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { overlayError } from '../errors.ts';
import type { Binding } from './binding.ts';

const require = createRequire(import.meta.url);
const packageRoot = fileURLToPath(new URL('../..', import.meta.url));

let loaded: Binding | undefined;

/** The addon, loaded when it is first needed: importing the package never fails. */
export function binding(): Binding {
  loaded ??= load();
  return loaded;
}

function load(): Binding {
  if (process.platform !== 'linux') {
    throw overlayError(
      'ERR_OVERLAY_UNSUPPORTED_PLATFORM',
      `overlay mounts are a feature of the Linux kernel; this is ${process.platform}`,
      'Run this part of the program on Linux: a virtual machine or a container on it will do',
    );
  }
  const named = process.env.OVERLAYFS_NATIVE;
  if (named !== undefined && named !== '') return loadFirst([named]);
  return loadFirst(candidates());
}

// node-gyp-build chooses: what was compiled here, else the prebuild that fits this platform, architecture and C library.
function candidates(): string[] {
  const compiled = join(packageRoot, 'build/Release/overlayfs.node');
  const found = existsSync(compiled) ? [compiled] : [];
  try {
    const { path } = require('node-gyp-build') as { path(directory: string): string };
    found.push(path(packageRoot));
  } catch {
    // It throws when nothing fits; the error below then says so.
  }
  return [...new Set(found)];
}

function loadFirst(files: readonly string[]): Binding {
  const tried: string[] = [];
  let cause: unknown;
  for (const file of files) {
    try {
      return require(file) as Binding;
    } catch (error) {
      cause = error;
      tried.push(`${file}: ${error instanceof Error ? error.message.split('\n')[0] : String(error)}`);
    }
  }
  const platform = `${process.platform}-${process.arch}, Node ${process.version}, ${libc()}`;
  throw overlayError(
    'ERR_OVERLAY_NATIVE_NOT_FOUND',
    [
      `the native addon for ${platform} cannot be loaded. Tried:`,
      ...(tried.length > 0
        ? tried
        : [`${join(packageRoot, 'prebuilds')}: no prebuild for this platform`]
      ).map((line) => `  - ${line}`),
    ].join('\n'),
    [
      'Remedies:',
      '  1. glibc on x64 or arm64: reinstall the package; its prebuilt addon is inside the tarball.',
      '  2. musl, or another architecture: compile it: install g++, python3 and make, then',
      '     `npm install-scripts approve overlayfs && npm rebuild overlayfs` (npm 11 and older: `npm rebuild overlayfs`).',
      '  3. A bundler moved the files: import `overlayfs/native/linux-x64`, or set OVERLAYFS_NATIVE to the .node file.',
    ].join('\n'),
    { cause },
  );
}

function libc(): string {
  const report = process.report as typeof process.report & { excludeNetwork?: boolean };
  const before = report.excludeNetwork;
  report.excludeNetwork = true;
  const { header } = report.getReport() as { header: { glibcVersionRuntime?: string } };
  if (before !== undefined) report.excludeNetwork = before;
  return header.glibcVersionRuntime === undefined
    ? 'musl or another C library'
    : `glibc ${header.glibcVersionRuntime}`;
}
