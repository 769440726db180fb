// Twenty changes that a tool may get wrong. Each is two scripts for sh, run in a directory of its own: what is there first,
// and what is done to it through the mount. Directories that differ in nothing but their time are no change.

/** Every case. */
export const cases = [
  ['a file is written', 'echo old > f', 'echo newer > f'],
  [
    'written, with the size and the time that it had',
    'echo old > f',
    'touch -r f ../time; echo new > f; touch -r ../time f',
  ],
  ['opened for writing, but not written', 'echo old > f', ': >> f'],
  ['only the mode of a file', 'echo old > f', 'chmod 600 f'],
  ['only an extended attribute', 'echo old > f', 'setfattr -n user.note -v x f'],
  ['only the time of a file', 'echo old > f', 'touch f'],
  ['only the mode of a directory', 'mkdir d; echo old > d/f', 'chmod 700 d'],
  ['a directory goes with all that it holds', 'mkdir -p d/e; echo old > d/e/f', 'rm -r d'],
  [
    'a directory goes and comes back with other files',
    'mkdir d; echo old > d/f',
    'rm -r d; mkdir d; echo new > d/g',
  ],
  [
    'a directory goes and comes back just as it was',
    'mkdir d; echo old > d/f',
    'cp -a d ../keep; rm -r d; cp -a ../keep d; rm -r ../keep',
  ],
  ['a file becomes a directory', 'echo old > x', 'rm x; mkdir x; echo new > x/f'],
  ['a directory becomes a file', 'mkdir x; echo old > x/f', 'rm -r x; echo new > x'],
  ['a file becomes a symbolic link', 'echo old > x; echo old > f', 'rm x; ln -s f x'],
  ['a symbolic link leads to another name of the same length', 'ln -s one l', 'ln -sfn two l'],
  ['a directory is renamed', 'mkdir -p d/e; echo old > d/e/f', 'mv d renamed'],
  [
    'two directories change places',
    'mkdir one two; echo old > one/f; echo older > two/f',
    'mv one three; mv two one; mv three two',
  ],
  ['a file gets a second name', 'echo old > f', 'ln f linked'],
  ['one of two names of a file is written', 'echo old > f; ln f linked', 'echo newer > f'],
  ['a name with a newline, not UTF-8', ':', 'echo new > "$(printf \'new\\nline\\377\')"'],
  ['a file whose name is that of a whiteout in an archive', 'echo old > f', 'echo new > .wh.f'],
].map(([name, before, act], index) => ({ name, before, act, directory: `case${index + 1}` }));

/** Makes the directories of all cases in the current directory. */
export const prepare = ['set -e', 'touch time']
  .concat(cases.map(({ directory, before }) => `mkdir ${directory}; cd ${directory}; ${before}\ncd ..`))
  .join('\n');
