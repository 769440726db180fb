/**
 * Checks of what callers hand over: types and keys, as a type checker would have made them.
 * @module
 */
import { invalidArgument } from './errors.ts';
import type { NativeRef } from './native/binding.ts';
import { directoryRef } from './paths.ts';
import type { DirRef } from './types.ts';

/** Throws a TypeError when the value is not of its type. */
export type Check = (value: unknown, name: string) => void;

export const boolean: Check = (value, name) => {
  if (typeof value !== 'boolean') throw invalidArgument(name, value, 'must be a boolean');
};

export const string: Check = (value, name) => {
  if (typeof value !== 'string') throw invalidArgument(name, value, 'must be a string');
  if (value.includes('\0')) throw invalidArgument(name, value, 'must not contain a NUL byte');
};

export const abortSignal: Check = (value, name) => {
  if (!(value instanceof AbortSignal)) throw invalidArgument(name, value, 'must be an AbortSignal');
};

export const callback: Check = (value, name) => {
  if (typeof value !== 'function') throw invalidArgument(name, value, 'must be a function');
};

/** One of these words. */
export const oneOf =
  (...words: readonly string[]): Check =>
  (value, name) => {
    if (typeof value !== 'string' || !words.includes(value)) {
      throw invalidArgument(name, value, `must be one of ${words.map((word) => `'${word}'`).join(', ')}`);
    }
  };

/** A whole number from `least` to `most`. */
export const integer =
  (least: number, most: number): Check =>
  (value, name) => {
    if (!Number.isInteger(value) || (value as number) < least || (value as number) > most) {
      throw invalidArgument(name, value, `must be an integer from ${least} to ${most}`);
    }
  };

/** An object, not an array. */
export function record(value: unknown, name: string): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw invalidArgument(name, value, 'must be an object');
  }
  return value as Record<string, unknown>;
}

/** An object whose keys must all be known: a misspelt option must not be ignored. */
export function closed(value: unknown, name: string, known: readonly string[]): Record<string, unknown> {
  const object = record(value, name);
  const unknown = Object.keys(object).find((key) => !known.includes(key));
  if (unknown !== undefined)
    throw invalidArgument(`${name}.${unknown}`, object[unknown], 'is not a known option');
  return object;
}

/** Options whose keys are those of `checks`, each of its type where it is given. */
export function checked<Options extends object>(
  options: Options,
  checks: Readonly<Record<keyof Options & string, Check>>,
): Options {
  const given = closed(options, 'options', Object.keys(checks));
  for (const [name, check] of Object.entries<Check>(checks)) {
    if (given[name] !== undefined) check(given[name], name);
  }
  return { ...options };
}

/** One directory or several, for the native side. */
export function directoryRefs(value: DirRef | readonly DirRef[], name: string): readonly NativeRef[] {
  if (!Array.isArray(value)) return [directoryRef(value as DirRef, name)];
  // Not map(), which leaves the holes of a sparse array as they are.
  return Array.from(value, (ref: DirRef, index) => directoryRef(ref, `${name}[${index}]`));
}
