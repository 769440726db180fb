/**
 * What a command prints: text with or without colour, JSON, and errors as what, why and fix.
 * @module
 */
import { styleText } from 'node:util';
import { OverlayError } from '../errors.ts';
import { exactString } from '../paths.ts';

/** Colours text, or leaves it. */
export type Paint = (colour: 'red' | 'yellow' | 'green' | 'cyan' | 'bold' | 'dim', text: string) => string;

/** Colours for a terminal; nothing for a pipe or a file, or with NO_COLOR. */
export function paintFor(stream: NodeJS.WriteStream): Paint {
  const colours = stream.isTTY && !process.env.NO_COLOR && process.env.TERM !== 'dumb';
  return (colour, text) => (colours ? styleText(colour, text, { validateStream: false }) : text);
}

/**
 * A value as JSON: bigints as decimal strings; an error as its fields; bytes (`targetBytes`, `pathBytes`) in base64, and
 * only where the text beside them is not exactly them.
 */
export function toJson(value: unknown): string {
  return JSON.stringify(plain(value), undefined, 2);
}

/** The same on one line, which ends with a newline. */
export function toJsonLine(value: unknown): string {
  return `${JSON.stringify(plain(value))}\n`;
}

/** An error as JSON has it. */
export function errorFields(error: unknown): Record<string, unknown> {
  if (!(error instanceof Error)) return { message: String(error) };
  const { name: _, stack: __, ...fields } = error as Error & Record<string, unknown>;
  return { ...fields, message: error.message };
}

/** What, why and fix: a line each. `what` is what the command could not do; `inWords` puts the fix into its own words. */
export function errorLines(
  what: string,
  error: unknown,
  paint: Paint,
  inWords: (fix: string) => string = (fix) => fix,
): string {
  const { code, why, fix } = reason(error);
  const line = (label: string, text: string) =>
    `  ${paint('bold', label)} ${text.replaceAll('\n', '\n       ')}`;
  return [
    `${paint('red', what)}${code === undefined ? '' : ` (${code})`}`,
    line('why:', why),
    line('fix:', inWords(fix)),
  ].join('\n');
}

/** Prints, and waits until it is out; false once nobody reads on. */
export function written(chunk: string | Uint8Array): Promise<boolean> {
  return new Promise((resolve) => process.stdout.write(chunk, (error) => resolve(!error)));
}

/** Columns side by side; what would move the cursor is escaped. */
export function table(rows: readonly (readonly string[])[]): string {
  const cells = rows.map((row) => row.map(printable));
  const widths = (cells[0] ?? []).map((_, column) =>
    Math.max(...cells.map((row) => row[column]?.length ?? 0)),
  );
  return cells
    .map((row) =>
      row
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

/** Text from outside, fit for a terminal. */
export function printable(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: those are what is meant
  return text.replace(/[\x00-\x1f\x7f]/g, (c) => `\\x${c.charCodeAt(0).toString(16).padStart(2, '0')}`);
}

function reason(error: unknown): { code?: string; why: string; fix: string } {
  const first = error instanceof OverlayError ? error.findings[0] : undefined;
  if (first === undefined) {
    return {
      why: error instanceof Error ? error.message : String(error),
      fix: 'Nothing is known of it; NODE_DEBUG=overlayfs tells more of what was done',
    };
  }
  const said = (error as OverlayError).kernel?.replaceAll('\n', '; ');
  const why = said === undefined ? first.detail : `${first.detail} (the kernel: ${said})`;
  return { code: first.code, why, fix: first.fix };
}

function plain(value: unknown): unknown {
  if (typeof value === 'bigint') return String(value);
  if (value instanceof Uint8Array) {
    const bytes = Buffer.from(value);
    return exactString(bytes) === undefined ? bytes.toString('base64') : undefined;
  }
  if (value instanceof Error) return plain(errorFields(value));
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value !== 'object' || value === null) return value;
  // What has its fields in getters, as changes have.
  if ('toJSON' in value && typeof value.toJSON === 'function') return plain(value.toJSON());
  return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, plain(one)]));
}
