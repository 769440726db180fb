import { spawnSync } from 'node:child_process';
import { readFileSync, statSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { type OwnerTag, ownerState, ownSource, parseOwner } from '../../lib/inspect/owner.ts';

const own = parseOwner(ownSource()) as OwnerTag;

describe('the owner tag of a mount', () => {
  it('names this process: its namespaces, its pid and when it started', () => {
    const stat = readFileSync('/proc/self/stat', 'latin1');
    expect(own).toEqual({
      pidNamespace: statSync('/proc/self/ns/pid', { bigint: true }).ino,
      timeNamespace: statSync('/proc/self/ns/time', { bigint: true }).ino,
      pid: process.pid,
      startTime: BigInt(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? ''),
    });
  });

  it('stays the same as long as the process lives', () => {
    expect(ownSource()).toBe(ownSource());
  });

  it.each([
    'overlayfs',
    'overlay',
    '',
    'none',
    'overlayfs:1:2:3',
    'overlayfs:1:2:3:4:5',
    'overlayfs:1:2:3:x',
    'overlayfs:-1:2:3:4',
    ' overlayfs:1:2:3:4',
    'overlayfs:1:2:3:4\n',
    'overlayfs-scratch',
  ])('is not what %j is', (source) => {
    expect(parseOwner(source)).toBeUndefined();
  });

  it('holds inodes beyond 53 bits', () => {
    expect(parseOwner('overlayfs:18446744073709551615:4026531834:1:9007199254740993')).toEqual({
      pidNamespace: 18446744073709551615n,
      timeNamespace: 4026531834n,
      pid: 1,
      startTime: 9007199254740993n,
    });
  });
});

describe('the process that a tag names', () => {
  const { pid: ended = 0 } = spawnSync('true');

  it.each<[string, Partial<OwnerTag>, ReturnType<typeof ownerState>]>([
    ['is alive when it is this one', {}, 'alive'],
    ['is gone when nobody has its pid', { pid: ended }, 'gone'],
    ['is gone when another process has its pid since', { startTime: own.startTime + 1n }, 'gone'],
    ['is unknown in another pid namespace', { pidNamespace: own.pidNamespace + 1n }, 'unknown'],
    ['is unknown in another time namespace', { timeNamespace: own.timeNamespace + 1n }, 'unknown'],
    ['is unknown there even if nobody has its pid here', { pidNamespace: 1n, pid: ended }, 'unknown'],
  ])('%s', (_, change, state) => {
    expect(ownerState({ ...own, ...change })).toBe(state);
  });
});
