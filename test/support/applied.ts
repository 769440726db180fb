/**
 * What applyChanges() is tried on: layers that something was done to through a mount, and a copy of the lower.
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'vitest';
import {
  type ApplyOptions,
  applyChanges,
  type Change,
  type ChangeOptions,
  changes,
  type LayerStack,
  mountOverlay,
} from '../../lib/index.ts';
import { afterThisTest, type Scratch } from './scratch.ts';
import { view } from './view.ts';

/** A lower with a tree in it, what `act` does to it through a mount, and a copy of the lower. */
export async function changed(
  scratch: Scratch,
  prepare: (lower: string) => void,
  act: (merged: string) => void,
  options: Pick<LayerStack, 'index'> = {},
): Promise<{ readonly stack: LayerStack; readonly target: string }> {
  const { lower, upper, work, target: merged } = scratch.layers();
  prepare(lower);
  const target = scratch.path('copy');
  execFileSync('cp', ['-a', lower, target]);
  const stack = { lower, upper, work, redirectDir: 'on', ...options } as const;
  await using overlay = await mountOverlay({ ...stack, target: merged });
  act(overlay.target as string);
  return { stack, target };
}

/** Applies all that there is to tell. */
export async function apply(stack: LayerStack, target: string, options: ApplyOptions = {}) {
  await using stream = changes(stack, { dirTimes: true });
  return await applyChanges(stream, target, options);
}

/** Sets an attribute; symbolic links are followed. */
export const setXattr = (path: string, name: string) =>
  execFileSync('python3', ['-c', 'import os, sys; os.setxattr(sys.argv[1], sys.argv[2], b"1")', path, name]);

/** Writes a file, in directories that are made for it. */
export const write = (folder: string, name: string, content: string) => {
  mkdirSync(join(folder, name, '..'), { recursive: true });
  writeFileSync(join(folder, name), content);
};

/** A small lower. */
export const tree = (lower: string) => {
  write(lower, 'd/f', 'old');
  write(lower, 'd/sub/g', 'g');
  write(lower, 'other', 'other');
};

/** What is done to it: one file of each kind of change. */
export const edit = (merged: string) => {
  writeFileSync(join(merged, 'd/f'), 'new');
  write(merged, 'd/new/file', 'added');
  rmSync(join(merged, 'other'));
};

/** What a mount of the stack shows is what the target holds. */
export async function expectSameAsMounted(
  scratch: Scratch,
  stack: LayerStack,
  target: string,
): Promise<void> {
  await using overlay = await mountOverlay({ ...stack, target: scratch.directory('again') });
  const shown = await view(overlay.target as string);
  for (const one of Object.values(shown)) {
    for (const name of Object.keys(one.xattrs)) if (name.includes('.overlay.')) throw new Error(name);
  }
  expect(await view(target)).toEqual(shown);
}

/** All that there is to tell; the layers stay open until the test ends. */
export async function collected(stack: LayerStack, options: ChangeOptions = {}): Promise<Change[]> {
  const stream = changes(stack, options);
  afterThisTest(() => stream.close());
  const all: Change[] = [];
  for await (const change of stream) all.push(change);
  return all;
}
