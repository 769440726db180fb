/** A directory tree byte for byte and attribute for attribute: two snapshots are equal if nothing has changed. */
import { mapTree, type Raw, readTree } from './view.ts';

/** What is known of one file: not its times, since looking at a directory's work is no change. */
export type Entry = Pick<
  Raw,
  'type' | 'mode' | 'links' | 'owner' | 'device' | 'content' | 'target' | 'xattrs'
>;

/** What stands at this path and below it, by whole paths. */
export async function snapshot(path: string): Promise<Record<string, Entry>> {
  const found = mapTree(
    await readTree({ path }),
    ({ type, mode, links, owner, device, content, target, xattrs }): Entry => ({
      ...{ type, mode, links, owner, device, content, target, xattrs },
    }),
  );
  return Object.fromEntries(
    Object.entries(found).map(([inside, entry]) => [inside === '.' ? path : `${path}/${inside}`, entry]),
  );
}

/** The extended attributes of one file, in hexadecimal. */
export async function xattrs(path: string): Promise<Entry['xattrs']> {
  return (await readTree({ path }))['.']?.xattrs ?? {};
}
