// What is wrong with a command line is said before anything is done: exit code 2, and what, why and fix.
import { describe, expect, it } from 'vitest';
import { overlayfs } from './run.ts';

const commands = [
  'mount',
  'unmount',
  'ls',
  'doctor',
  'support',
  'holders',
  'which',
  'copy-up',
  'diff',
  'apply',
  'sweep',
  'demo',
];
const storeCommands = [
  'init',
  'ls',
  'tree',
  'create',
  'mount',
  'unmount',
  'commit',
  'diff',
  'usage',
  'check',
  'gc',
  'rm',
];
const wrong = (program: string, why: string) =>
  `${program}: wrong usage\n  why: ${why}\n  fix: See \`${program} --help\`\n`;

describe('overlayfs --help', () => {
  it('names every command', () => {
    const { status, stdout, stderr } = overlayfs('--help');
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    for (const command of commands) expect(stdout).toMatch(new RegExp(`^ {2}${command} +[A-Z]`, 'm'));
    expect(stdout).toMatch(/^ {2}store +[A-Z]/m);
    expect(overlayfs('-h').stdout).toBe(stdout);
  });

  it('names every command of the store', () => {
    const { status, stdout, stderr } = overlayfs('store', '--help');
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    expect(stdout).toMatch(/^Usage: overlayfs store COMMAND \[FLAGS\] …\n/);
    for (const command of storeCommands) expect(stdout).toMatch(new RegExp(`^ {2}${command} +[A-Z]`, 'm'));
  });

  const all = [...commands, ...storeCommands.map((command) => `store ${command}`)];
  it.each(all)('%s has one of its own, with its flags, exit codes and examples', (command) => {
    const { status, stdout, stderr } = overlayfs(...command.split(' '), '--help');
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    expect(stdout).toMatch(new RegExp(`^Usage: overlayfs ${command} \\[FLAGS\\]`));
    expect(stdout).toMatch(/^ {6}--json /m);
    expect(stdout).toMatch(/^Exit codes: 0, .*; 1, .*; 2, wrong usage\.$/m);
    expect(stdout).toMatch(new RegExp(`^Examples:\n {2}overlayfs ${command}`, 'm'));
  });

  it('is not asked for a missing argument first', () => {
    expect(overlayfs('mount', '--nonsense', '--help').status).toBe(2);
    expect(overlayfs('mount', '--help').status).toBe(0);
  });

  it('--version is that of the package', () => {
    expect(overlayfs('--version').stdout).toMatch(/^\d+\.\d+\.\d+\n$/);
  });
});

describe('a command line that is wrong', () => {
  it.each([
    [[], 'overlayfs', 'no command is given'],
    [['mont'], 'overlayfs', "there is no command 'mont'"],
    [['toString'], 'overlayfs', "there is no command 'toString'"],
    [['mount'], 'overlayfs mount', 'TARGET is missing'],
    [['mount', '-l', '/', 'a', 'b'], 'overlayfs mount', "unexpected argument 'b'"],
    [['ls', 'a'], 'overlayfs ls', "unexpected argument 'a'"],
    [['mount', '--uper', 'x', 'm'], 'overlayfs mount', "Unknown option '--uper'"],
    [['mount', '-l'], 'overlayfs mount', "Option '-l, --lower <value>' argument missing"],
    [['mount', '-l', '', 'm'], 'overlayfs mount', 'lower[0] is empty'],
    [['mount', '-l', '/', '-u', '', '-w', '/', 'm'], 'overlayfs mount', 'upper is empty'],
    [['mount', '-l', '/', ''], 'overlayfs mount', 'target is empty'],
    [['which'], 'overlayfs which', 'PATH is missing'],
    [['which', '-u', '/', 'a'], 'overlayfs which', '--upper needs --lower'],
    [['diff'], 'overlayfs diff', 'TARGET is missing, or layers with --lower'],
    [['apply'], 'overlayfs apply', 'DIRECTORY is missing'],
    [['unmount', ''], 'overlayfs unmount', 'target is empty'],
    [
      ['mount', '-l', '/', '--index=yes', 'm'],
      'overlayfs mount',
      "Option '--index' does not take an argument",
    ],
    [
      ['mount', '-l', '/', '--redirect-dir', 'off', 'm'],
      'overlayfs mount',
      "--redirect-dir must be one of 'on', 'follow', 'nofollow' (received 'off')",
    ],
    [
      ['mount', '-l', '/', '-o', 'index=on', 'm'],
      'overlayfs mount',
      "--kernel-options.index has an option of its own: index (received 'on')",
    ],
    [
      ['mount', '-l', '/', '--scratch=big', 'm'],
      'overlayfs mount',
      '--scratch=big: a size is a number, with k, m, g or t behind it',
    ],
    [['store'], 'overlayfs store', 'no command is given'],
    [['store', 'lss'], 'overlayfs store', "there is no command 'lss'"],
    [['store', 'ls'], 'overlayfs store ls', '--root is missing'],
    [['store', 'ls', '--root', ''], 'overlayfs store ls', 'root is empty'],
    [['store', 'rm', '--root', '/'], 'overlayfs store rm', 'ID is missing'],
    [['store', 'mount', '--root', '/', 'a', 'b'], 'overlayfs store mount', "unexpected argument 'b'"],
    [
      ['store', 'ls', '--root', '/', '--driver', 'aufs'],
      'overlayfs store ls',
      "--driver must be one of 'overlay2', 'overlay' (received 'aufs')",
    ],
    [
      ['store', 'gc', '--root', '/', '--lock-timeout', 'soon'],
      'overlayfs store gc',
      '--lock-timeout soon: a number of milliseconds is wanted',
    ],
    [
      ['unmount', '--timeout', 'soon', 'm'],
      'overlayfs unmount',
      '--timeout soon: a number of milliseconds is wanted',
    ],
  ])('%j', (args, program, why) => {
    expect(overlayfs(...args)).toEqual({ status: 2, stdout: '', stderr: wrong(program, why) });
  });

  it('is an object on stderr with --json', () => {
    const { status, stdout, stderr } = overlayfs('mount', '--json');
    expect({ status, stdout }).toEqual({ status: 2, stdout: '' });
    expect(JSON.parse(stderr)).toEqual({ error: { message: 'TARGET is missing' } });
  });
});
