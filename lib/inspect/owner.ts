/**
 * Whose a mount is: the tag that a mount carries as its source, and whether the process that it names still lives.
 * @module
 */
import { readFileSync, readlinkSync, statSync } from 'node:fs';

/** A process, told apart from every other that ever had its pid. */
export interface OwnerTag {
  /** Inode of the pid namespace that `pid` counts in. */
  readonly pidNamespace: bigint;
  /** Inode of the time namespace that `startTime` counts in. */
  readonly timeNamespace: bigint;
  readonly pid: number;
  /** Clock ticks since boot: field 22 of proc_pid_stat(5). */
  readonly startTime: bigint;
}

/** The source of a mount that should outlive its process: ours, but nobody's orphan. */
export const unownedSource = 'overlayfs';

const pattern = /^overlayfs:(\d+):(\d+):(\d+):(\d+)$/;

/** The source that names this process, or `overlayfs` where /proc cannot tell. */
export function ownSource(): string {
  const tag = ownTag();
  return tag === undefined
    ? unownedSource
    : `overlayfs:${tag.pidNamespace}:${tag.timeNamespace}:${tag.pid}:${tag.startTime}`;
}

/** The owner that a mount's source names. */
export function parseOwner(source: string): OwnerTag | undefined {
  const match = pattern.exec(source);
  if (match === null) return undefined;
  const [, pidNamespace = '', timeNamespace = '', pid, startTime = ''] = match;
  return {
    pidNamespace: BigInt(pidNamespace),
    timeNamespace: BigInt(timeNamespace),
    pid: Number(pid),
    startTime: BigInt(startTime),
  };
}

/**
 * Whether the owner still lives. `unknown` where this process could not see it: another pid or time namespace, or a
 * /proc of another pid namespace than its own.
 */
export function ownerState(owner: OwnerTag): 'alive' | 'gone' | 'unknown' {
  const own = ownTag();
  if (own === undefined) return 'unknown';
  if (owner.pidNamespace !== own.pidNamespace || owner.timeNamespace !== own.timeNamespace) return 'unknown';
  return startTime(owner.pid) === owner.startTime ? 'alive' : 'gone';
}

let ownTagKnown: OwnerTag | undefined;

function ownTag(): OwnerTag | undefined {
  ownTagKnown ??= readOwnTag();
  return ownTagKnown;
}

function readOwnTag(): OwnerTag | undefined {
  try {
    // `unshare --pid --fork` without a /proc of its own: /proc/self is then another process, or nobody.
    if (readlinkSync('/proc/self') !== String(process.pid)) return undefined;
    const started = startTime(process.pid);
    if (started === undefined) return undefined;
    return {
      pidNamespace: namespaceInode('pid'),
      timeNamespace: namespaceInode('time'),
      pid: process.pid,
      startTime: started,
    };
  } catch {
    return undefined;
  }
}

// Linux before 5.6 has no time namespaces: one clock for all.
function namespaceInode(kind: 'pid' | 'time'): bigint {
  try {
    return statSync(`/proc/self/ns/${kind}`, { bigint: true }).ino;
  } catch (error) {
    if (kind === 'time') return 0n;
    throw error;
  }
}

// The command in field 2 may hold spaces and parentheses: fields are counted from the last ')'.
function startTime(pid: number): bigint | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    const field = stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19];
    return field === undefined ? undefined : BigInt(field);
  } catch (error) {
    // ESRCH: it died between the open and the read.
    if (['ENOENT', 'ESRCH'].includes((error as NodeJS.ErrnoException).code ?? '')) return undefined;
    throw error;
  }
}
