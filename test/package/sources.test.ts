// The same sources, listed twice: binding.gyp for the release, CMakeLists.txt for the developers.
import { readdirSync, readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';

const read = (file: string): string => readFileSync(new URL(`../../${file}`, import.meta.url), 'utf8');
const listedIn = (text: string): string[] =>
  [...text.matchAll(/(?:binding|core)\/\w+\.cc/g)].map(([file]) => file);

const release = listedIn(read('binding.gyp'));
const faults = ['binding/fault.cc', 'core/fault.cc'];
const developer = listedIn(read('native/CMakeLists.txt')).filter((file) => !faults.includes(file));
const onDisk = ['binding', 'core'].flatMap((folder) =>
  readdirSync(new URL(`../../native/${folder}`, import.meta.url))
    .filter((file) => file.endsWith('.cc'))
    .map((file) => `${folder}/${file}`),
);

describe('the lists of C++ sources', () => {
  it('are the same in the release build and in the developer build', () => {
    expect(developer).toEqual(release);
  });

  it('name every file on disk, in order, but for the fault plan', () => {
    expect(release).toEqual(onDisk.filter((file) => !faults.includes(file)).sort());
  });

  it('keep the fault plan out of the release build', () => {
    expect(release.filter((file) => faults.includes(file))).toEqual([]);
  });
});
