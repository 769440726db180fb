/**
 * `-N`: a helper's work in another mount namespace. Node.js has threads, and setns(2) takes none of those along, so the
 * helper is run again through nsenter(1).
 * @module
 */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

/** mount(8): a system error. */
const systemError = 2;

/** Runs a helper again in a mount namespace, which is named by a path or a pid; gives its exit code. */
export function inMountNamespace(namespace: string, helper: string, args: readonly string[]): number {
  const path = /^\d+$/.test(namespace) ? `/proc/${namespace}/ns/mnt` : namespace;
  const program = fileURLToPath(new URL('./main.js', import.meta.url));
  const inside = ['--', process.execPath, program, helper, ...args];
  const { status, error } = spawnSync('nsenter', [`--mount=${path}`, ...inside], { stdio: 'inherit' });
  // nsenter(1) ends with 1 where it cannot enter, with 126 or 127 where the program is not to be had inside.
  if (error === undefined && status !== null && status < 126) return status;
  const why =
    error === undefined ? `${process.execPath} or ${program} is not to be had inside it` : error.message;
  console.error(`${helper}: cannot run in the mount namespace ${path}: ${why}`);
  return systemError;
}
