/** Change sets as short lines, and extended attributes for tests to set: Node.js has no calls for them. */
import { type Change, type ChangeOptions, type ChangeResult, changes } from '../../lib/index.ts';
import { python } from './python.ts';

/** `renamed directory new <- old [mode]`, in the order of the stream. */
export async function lines(
  stack: Parameters<typeof changes>[0],
  options: ChangeOptions = {},
): Promise<string[]> {
  return (await everything(stack, options)).told.map(line);
}

/** All changes, and what came of it; the stream is closed. */
export async function everything(
  stack: Parameters<typeof changes>[0],
  options: ChangeOptions = {},
): Promise<{ told: Change[]; result: ChangeResult }> {
  await using stream = changes(stack, options);
  const told: Change[] = [];
  for await (const change of stream) told.push(change);
  return { told, result: await stream.done };
}

/** One change as a line. */
export function line({ kind, type, path, from, previousType, replaces, fields }: Change): string {
  return [
    `${kind} ${type} ${path}`,
    ...(from === undefined ? [] : [`<- ${from}`]),
    ...(previousType === undefined ? [] : [`was ${previousType}`]),
    ...(replaces === undefined ? [] : [`over ${replaces}`]),
    ...(fields.length === 0 ? [] : [`[${fields}]`]),
  ].join(' ');
}

/** Sets attributes, `trusted.overlay.*` among them; values as latin1. Symbolic links are not followed. */
export const setXattrs = python<{ path: string; xattrs: Record<string, string> }, null>(`
import os
def answer(request):
    for name, value in request['xattrs'].items():
        os.setxattr(os.fsencode(request['path']), name, value.encode('latin1'), follow_symlinks=False)
`);
