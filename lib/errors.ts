/**
 * Every failure of this package, as one class with a stable code, the reason and the way out.
 * @module
 */
import { constants } from 'node:os';
import { getSystemErrorMap, inspect } from 'node:util';
import type { Finding, Holders } from './types.ts';

/**
 * What kind of refusal a code stands for: `policy`, we refuse what the kernel would take; `kernel`, it would fail;
 * `unpredictable`, no look beforehand can know (limits, quotas, security modules, races).
 */
export type ErrorKind = 'policy' | 'kernel' | 'unpredictable';

/** Every code, with its kind. `docs/errors.md` says more of each. */
export const errorCodes = {
  ERR_OVERLAY_UNSUPPORTED_PLATFORM: 'kernel',
  ERR_OVERLAY_NATIVE_NOT_FOUND: 'kernel',
  ERR_OVERLAY_NOT_IN_KERNEL: 'kernel',
  ERR_OVERLAY_NO_PRIVILEGE: 'kernel',
  ERR_OVERLAY_SECCOMP: 'unpredictable',
  ERR_OVERLAY_MOUNT_API_UNAVAILABLE: 'kernel',
  ERR_OVERLAY_NO_DETACHED: 'kernel',
  ERR_OVERLAY_OPTION_UNKNOWN: 'kernel',
  ERR_OVERLAY_OPTION_VALUE: 'kernel',
  ERR_OVERLAY_OPTION_TOO_LONG: 'kernel',
  ERR_OVERLAY_OPTIONS_CONFLICT: 'kernel',
  ERR_OVERLAY_OPTIONS_CONTRADICT: 'policy',
  ERR_OVERLAY_EMPTY_PATH: 'kernel',
  ERR_OVERLAY_NO_LOWER: 'kernel',
  ERR_OVERLAY_NO_REGULAR_LOWER: 'kernel',
  ERR_OVERLAY_SINGLE_LOWER: 'kernel',
  ERR_OVERLAY_TOO_MANY_LOWERS: 'kernel',
  ERR_OVERLAY_WORK_MISSING: 'kernel',
  ERR_OVERLAY_UPPER_MISSING: 'policy',
  ERR_OVERLAY_LAYER_NOT_FOUND: 'kernel',
  ERR_OVERLAY_LAYER_NOT_DIRECTORY: 'kernel',
  ERR_OVERLAY_LAYER_NOT_PERMITTED: 'kernel',
  ERR_OVERLAY_LAYER_BAD_FD: 'kernel',
  ERR_OVERLAY_LAYER_UNREACHABLE: 'kernel',
  ERR_OVERLAY_LAYER_UNSUITABLE: 'kernel',
  ERR_OVERLAY_NESTED_TOO_DEEP: 'kernel',
  ERR_OVERLAY_UPPER_DELETED: 'policy',
  ERR_OVERLAY_UPPER_IN_LOWER: 'policy',
  ERR_OVERLAY_LOWER_IN_UPPER: 'kernel',
  ERR_OVERLAY_UPPER_IS_LOWER: 'kernel',
  ERR_OVERLAY_LOWER_TWICE: 'kernel',
  ERR_OVERLAY_LOWER_IN_LOWER: 'kernel',
  ERR_OVERLAY_WORK_NOT_SEPARATE: 'kernel',
  ERR_OVERLAY_WORK_ON_OTHER_MOUNT: 'kernel',
  ERR_OVERLAY_UPPER_READONLY: 'kernel',
  ERR_OVERLAY_UPPER_ON_OVERLAY: 'kernel',
  ERR_OVERLAY_UPPER_WITHOUT_XATTRS: 'policy',
  ERR_OVERLAY_UPPER_IN_USE: 'policy',
  ERR_OVERLAY_WORK_IN_USE: 'policy',
  ERR_OVERLAY_WORK_LOCKED: 'policy',
  ERR_OVERLAY_VOLATILE_MARKER: 'kernel',
  ERR_OVERLAY_INDEX_MISMATCH: 'kernel',
  ERR_OVERLAY_CAME_UP_READONLY: 'kernel',
  ERR_OVERLAY_TARGET_NOT_FOUND: 'kernel',
  ERR_OVERLAY_TARGET_NOT_DIRECTORY: 'kernel',
  ERR_OVERLAY_TARGET_UNREACHABLE: 'kernel',
  ERR_OVERLAY_SIGNALS_IN_WORKER: 'policy',
  ERR_OVERLAY_NO_SPACE: 'unpredictable',
  ERR_OVERLAY_NO_MEMORY: 'unpredictable',
  ERR_OVERLAY_TOO_MANY_FILES: 'unpredictable',
  ERR_OVERLAY_MOUNT_FAILED: 'unpredictable',
  ERR_OVERLAY_TARGET_COVERED: 'policy',
  ERR_OVERLAY_NOT_AN_OVERLAY: 'policy',
  ERR_OVERLAY_BUSY: 'kernel',
  ERR_OVERLAY_UNMOUNT_FAILED: 'unpredictable',
  ERR_OVERLAY_SYNC_FAILED: 'unpredictable',
  ERR_OVERLAY_REMOUNT_FAILED: 'unpredictable',
  ERR_OVERLAY_UNREACHABLE: 'unpredictable',
  ERR_OVERLAY_NOT_MOUNTED: 'policy',
  ERR_OVERLAY_ALREADY_ATTACHED: 'policy',
  ERR_OVERLAY_PATH_ESCAPES: 'policy',
  ERR_OVERLAY_PATH_NOT_UTF8: 'policy',
  ERR_OVERLAY_XATTR_HIDDEN: 'policy',
  ERR_OVERLAY_WHITEOUT_IN_OPAQUE: 'policy',
  ERR_OVERLAY_WHITEOUT_ON_OVERLAY: 'kernel',
  ERR_OVERLAY_NOT_A_WHITEOUT: 'policy',
  ERR_OVERLAY_LAYER_ROOT: 'policy',
  ERR_OVERLAY_LAYER_WITHOUT_XATTRS: 'kernel',
  ERR_OVERLAY_LAYERS_UNKNOWN: 'policy',
  ERR_OVERLAY_WORK_NEEDED: 'policy',
  ERR_OVERLAY_REDIRECT_REFUSED: 'kernel',
  ERR_OVERLAY_METACOPY_REFUSED: 'kernel',
  ERR_OVERLAY_LAYERS_OVERLAP: 'kernel',
  ERR_OVERLAY_INDEX_REFUSED: 'kernel',
  ERR_OVERLAY_HAS_INDEX: 'policy',
  ERR_OVERLAY_RENAME_REFUSED: 'policy',
  ERR_OVERLAY_RENAME_CHANGED: 'unpredictable',
  ERR_OVERLAY_RENAME_HALF_DONE: 'unpredictable',
  ERR_OVERLAY_TARGET_OVERLAPS: 'policy',
  ERR_OVERLAY_TARGET_IN_USE: 'policy',
  ERR_OVERLAY_TARGET_ON_OVERLAY: 'kernel',
  ERR_OVERLAY_RESERVED_NAME: 'policy',
  ERR_OVERLAY_APPLY_CONFLICT: 'policy',
  ERR_OVERLAY_APPLY_HALF_DONE: 'unpredictable',
  ERR_OVERLAY_FOREIGN_LAYER: 'policy',
  ERR_OVERLAY_STREAM_CLOSED: 'policy',
  ERR_OVERLAY_VIEW_CLOSED: 'policy',
  ERR_OVERLAY_STORE_ROOT: 'policy',
  ERR_OVERLAY_STORE_ROOT_UNSAFE: 'policy',
  ERR_OVERLAY_STORE_READONLY: 'policy',
  ERR_OVERLAY_STORE_OWNER_ALIVE: 'policy',
  ERR_OVERLAY_STORE_ID: 'policy',
  ERR_OVERLAY_STORE_LAYER_EXISTS: 'policy',
  ERR_OVERLAY_STORE_LAYER_NOT_FOUND: 'policy',
  ERR_OVERLAY_STORE_LAYER_DAMAGED: 'policy',
  ERR_OVERLAY_STORE_LAYER_READONLY: 'policy',
  ERR_OVERLAY_STORE_LAYER_IN_USE: 'policy',
  ERR_OVERLAY_STORE_LAYER_HAS_CHILDREN: 'policy',
  ERR_OVERLAY_STORE_LOCKED: 'unpredictable',
  ERR_OVERLAY_STORE_FAILED: 'unpredictable',
  ERR_OVERLAY_STORE_CLOSED: 'policy',
  ERR_OVERLAY_EXITING: 'unpredictable',
} as const satisfies Record<string, ErrorKind>;

/** A stable error code: `ERR_OVERLAY_…`. */
export type ErrorCode = keyof typeof errorCodes;

/** What an {@link OverlayError} carries beside its findings. */
export interface OverlayErrorDetails {
  readonly errno?: number;
  readonly syscall?: string;
  readonly path?: string;
  readonly dest?: string;
  readonly kernel?: string;
  readonly holders?: Holders;
  readonly cause?: unknown;
}

/**
 * A failure of this package: a stable `code`, why (`findings`, most likely first) and what the kernel said.
 *
 * @example
 * ```ts
 * import { mountOverlay, OverlayError } from 'overlayfs';
 *
 * try {
 *   await mountOverlay({ lower: '/srv/base', upper: '/srv/base/upper', work: '/srv/work', target: '/mnt' });
 * } catch (error) {
 *   if (error instanceof OverlayError && error.code === 'ERR_OVERLAY_UPPER_IN_LOWER') {
 *     console.error(error.findings[0]?.fix);
 *   }
 * }
 * ```
 */
export class OverlayError extends Error {
  /** A stable code; `docs/errors.md` is the table. */
  declare readonly code: string;
  /** The system call's error number, negative as in `node:fs`, where one failed. */
  declare readonly errno?: number;
  /** The system call that failed. */
  declare readonly syscall?: string;
  declare readonly path?: string;
  declare readonly dest?: string;
  /** Why, most likely first. */
  declare readonly findings: readonly Finding[];
  /** What the kernel itself said, where it said anything. */
  declare readonly kernel?: string;
  /** Who keeps the mount busy, or holds the overlay that uses the upper, where that is the reason. */
  declare readonly holders?: Holders;

  constructor(findings: readonly [Finding, ...Finding[]], details: OverlayErrorDetails = {}) {
    const [{ code, detail, fix }] = findings;
    const { cause, ...fields } = details;
    const said = details.kernel === undefined ? '' : ` (the kernel: ${details.kernel})`;
    super(`${code}: ${detail}${said}. ${fix}`, cause === undefined ? undefined : { cause });
    this.code = code;
    this.findings = findings;
    Object.assign(this, fields);
  }
}
// On the prototype, not an own property: so inspect() does not list it.
Object.defineProperty(OverlayError.prototype, 'name', {
  value: 'OverlayError',
  configurable: true,
  writable: true,
});

/** One finding of severity `error`. */
export function errorFinding(code: ErrorCode, detail: string, fix: string, path?: string): Finding {
  return { code, severity: 'error', ...(path === undefined ? {} : { path }), detail, fix };
}

/** An error with a single reason. */
export function overlayError(
  code: ErrorCode,
  detail: string,
  fix: string,
  details: OverlayErrorDetails = {},
): OverlayError {
  return new OverlayError([errorFinding(code, detail, fix, details.path)], details);
}

/** The system's name and words for an error number (negative, as in `node:fs`). */
export function systemError(errno: number): { readonly code: string; readonly text: string } {
  const [code, text] = getSystemErrorMap().get(errno) ?? beyondLibuv(errno);
  // libuv says this of sockets.
  return { code, text: code === 'ENOTSUP' ? 'operation not supported' : text };
}

// Errors of file systems that libuv has no words for.
function beyondLibuv(errno: number): readonly [code: string, text: string] {
  if (errno === -constants.errno.EDQUOT) return ['EDQUOT', 'disk quota exceeded'];
  if (errno === -constants.errno.ESTALE) return ['ESTALE', 'stale file handle'];
  return [`errno ${-errno}`, 'unknown error'];
}

/** An error as `node:fs` makes it, for what is wrong with a file inside an overlay. */
export function fileError(
  errno: number,
  syscall: string,
  path: string,
  cause: unknown,
  dest?: string,
): NodeJS.ErrnoException {
  const { code, text } = systemError(errno);
  const to = dest === undefined ? '' : ` -> '${dest}'`;
  return Object.assign(new Error(`${code}: ${text}, ${syscall} '${path}'${to}`, { cause }), {
    errno,
    code,
    syscall,
    path,
    ...(dest === undefined ? {} : { dest }),
  });
}

/** A wrong type, an unknown key or a NUL byte: what a type checker would have caught. */
export function invalidArgument(name: string, value: unknown, problem: string): TypeError {
  const error = new TypeError(`${name} ${problem} (received ${inspect(value, { depth: 0 })})`);
  return Object.assign(error, { code: 'ERR_INVALID_ARG_VALUE' });
}
