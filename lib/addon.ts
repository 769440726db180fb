/**
 * The native addon, or an error that says why there is none and what helps.
 * @module
 */
import { overlayError } from './errors.ts';
import type { Binding } from './native/binding.ts';
import { load } from './native/load.ts';

let loaded: Binding | undefined;

/** The addon, loaded when it is first needed: importing the package never fails. */
export function binding(): Binding {
  loaded ??= loadOrExplain();
  return loaded;
}

function loadOrExplain(): Binding {
  if (process.platform !== 'linux') {
    throw overlayError(
      'ERR_OVERLAY_UNSUPPORTED_PLATFORM',
      `overlay mounts are a feature of the Linux kernel; this is ${process.platform}`,
      'Run this part of the program on Linux: a virtual machine or a container on it will do',
    );
  }
  const result = load();
  if (result.binding !== undefined) return result.binding;
  const { tried, cause } = result;
  throw overlayError(
    'ERR_OVERLAY_NATIVE_NOT_FOUND',
    [
      `the native addon for linux-${process.arch}, Node ${process.version}, ${libc()} cannot be loaded. Tried:`,
      ...tried.map((line) => `  - ${line}`),
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
  report.excludeNetwork = true; // network interfaces make it slow
  const { header } = report.getReport() as { header: { glibcVersionRuntime?: string } };
  if (before !== undefined) report.excludeNetwork = before;
  return header.glibcVersionRuntime === undefined
    ? 'musl or another C library'
    : `glibc ${header.glibcVersionRuntime}`;
}
