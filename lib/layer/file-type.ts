/**
 * What kind of file something is.
 * @module
 */
import { constants } from 'node:fs';

/** What a directory entry is: the file type of stat(2). */
export type FileType = 'file' | 'directory' | 'symlink' | 'fifo' | 'socket' | 'block' | 'character';

const types: Readonly<Record<number, FileType>> = {
  [constants.S_IFREG]: 'file',
  [constants.S_IFDIR]: 'directory',
  [constants.S_IFLNK]: 'symlink',
  [constants.S_IFIFO]: 'fifo',
  [constants.S_IFSOCK]: 'socket',
  [constants.S_IFBLK]: 'block',
  [constants.S_IFCHR]: 'character',
};

/** The file type in the bits of a mode. */
export function typeOf(mode: number): FileType {
  return types[mode & constants.S_IFMT] ?? 'file';
}
