/**
 * One change as a line: for people, or as git has it.
 * @module
 */
import type { Change, ChangeKind } from '../changes/change.ts';
import { formatBytes } from '../changes/summary.ts';
import { exactString } from '../paths.ts';
import { type Paint, printable } from './output.ts';

const colours: Readonly<Record<ChangeKind, Parameters<Paint>[0]>> = {
  added: 'green',
  modified: 'yellow',
  metadata: 'dim',
  deleted: 'red',
  replaced: 'red',
  renamed: 'cyan',
};

/** `modified  etc/hosts  size, mtime, content; 4 B → 10 B` */
export function changeLine(change: Change, paint: Paint): string {
  const { kind, path, type, from, fields } = change;
  const about = [
    ...(from === undefined ? [] : [`${kind === 'renamed' ? 'from' : 'was'} ${printable(from)}`]),
    ...gone(change),
    ...(fields.length === 0 ? [] : [printable(fields.join(', '))]),
    ...sizes(change),
  ].join('; ');
  const name = `${printable(path)}${type === 'directory' ? '/' : ''}`;
  return `${paint(colours[kind], kind.padEnd(8))}  ${name}${about === '' ? '' : `  ${paint('dim', about)}`}\n`;
}

function gone({ type, previousType, replaces }: Change): string[] {
  if (replaces !== undefined) return [`over a ${replaces}`];
  if (previousType === undefined) return [];
  return [previousType === type ? `another ${type}` : `was a ${previousType}`];
}

function sizes({ kind, type, size, previousSize }: Change): string[] {
  if (kind === 'deleted' || type !== 'file') return [];
  if (previousSize === undefined || previousSize === size) return kind === 'added' ? [formatBytes(size)] : [];
  return [`${formatBytes(previousSize)} → ${formatBytes(size)}`];
}

const letters: Readonly<Record<ChangeKind, string>> = {
  added: 'A',
  modified: 'M',
  metadata: 'M',
  deleted: 'D',
  replaced: 'T',
  renamed: 'R',
};

/** `M`, a tab, the path; of `R` both paths. As git does, paths with unusual bytes are in double quotes, escaped as in C. */
export function nameStatusLine({ kind, path, pathBytes, from, fromBytes }: Change): string {
  const name = quoted(path, pathBytes);
  const before = kind === 'renamed' ? `${quoted(from ?? '', fromBytes ?? Buffer.alloc(0))}\t` : '';
  return `${letters[kind]}\t${before}${name}\n`;
}

/** The same for programs: every field ends with a NUL byte, and paths are the bytes that they are. */
export function nameStatusFields({ kind, pathBytes, fromBytes }: Change): Buffer {
  const end = Buffer.from([0]);
  const before = kind === 'renamed' && fromBytes !== undefined ? [fromBytes, end] : [];
  return Buffer.concat([Buffer.from(letters[kind]), end, ...before, pathBytes, end]);
}

const escapes: Readonly<Record<string, string>> = {
  '"': '\\"',
  '\\': '\\\\',
  '\x07': '\\a',
  '\b': '\\b',
  '\t': '\\t',
  '\n': '\\n',
  '\v': '\\v',
  '\f': '\\f',
  '\r': '\\r',
};

function quoted(path: string, bytes: Buffer): string {
  const exact = exactString(bytes) !== undefined;
  // biome-ignore lint/suspicious/noControlCharactersInRegex: those are what is meant
  const unusual = exact ? /["\\\x00-\x1f\x7f]/g : /["\\\x00-\x1f\x7f-\xff]/g;
  const text = exact ? path : bytes.toString('latin1');
  const escaped = text.replace(
    unusual,
    (one) => escapes[one] ?? `\\${one.charCodeAt(0).toString(8).padStart(3, '0')}`,
  );
  return escaped === text ? text : `"${escaped}"`;
}
