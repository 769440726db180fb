// Proof that the twin makes the same system calls: strace counts both, for one mount and unmount.
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { twinArguments, twinIn } from './raw.mjs';

const served = fileURLToPath(new URL('served.mjs', import.meta.url));
const shapes = {
  'read-only, 2 lowers': {},
  'writable, checkInUse: false': { writable: true },
  'writable (raw + probe)': { writable: true, probe: true },
  volatile: { writable: true, volatile: true },
  detached: { detached: true },
  scratch: { scratch: true },
};
// What an event loop, its threads and its memory need; the twin has no such thing.
const ofNode =
  /^(epoll|futex|madvise|mprotect|mmap|munmap|read$|write$|getpid|geteuid|sched_|rt_sig|clone|brk|set_|rseq)/;

/** How often each call is made by the command while it answers `count` requests. */
async function countCalls(scratch, command, count) {
  const file = join(scratch, 'strace');
  const process_ = spawn('strace', ['-f', '-c', '-U', 'calls,name', '-o', file, ...command], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const answers = createInterface({ input: process_.stdout })[Symbol.asyncIterator]();
  for (let i = 0; i < count; i++) {
    process_.stdin.write('\n');
    await answers.next();
  }
  process_.stdin.end();
  await new Promise((resolve) => process_.on('exit', resolve));
  const lines = readFileSync(file, 'utf8').matchAll(/^ *(\d+) +(\w+)$/gm);
  return Object.fromEntries([...lines].map(([, calls, name]) => [name, Number(calls)]));
}

/** The calls of one request: those of 30 requests less those of 10, so that start and end cancel out. */
async function callsPerRequest(scratch, command) {
  const few = await countCalls(scratch, command, 10);
  const many = await countCalls(scratch, command, 30);
  const names = Object.keys(many).filter((name) => name !== 'total');
  const perRequest = names.map((name) => [name, Math.round((many[name] - (few[name] ?? 0)) / 20)]);
  return Object.fromEntries(perRequest.filter(([, calls]) => calls > 0));
}

const shown = (calls) =>
  Object.entries(calls)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, count]) => (count === 1 ? name : `${name} ×${count}`))
    .join(', ');

/** For each shape the twin's calls, and by what ours differ. */
export async function callTable({ scratch, rooms }) {
  const paragraphs = [];
  for (const [name, shape] of Object.entries(shapes)) {
    const room = rooms.make('tmpfs', shape);
    const twin = await callsPerRequest(scratch, [twinIn(scratch), ...twinArguments('overlay', room, shape)]);
    const ours = await callsPerRequest(scratch, [process.execPath, served, room, JSON.stringify(shape)]);
    const differing = [...new Set([...Object.keys(twin), ...Object.keys(ours)])]
      .filter((call) => !ofNode.test(call) && (twin[call] ?? 0) !== (ours[call] ?? 0))
      .map((call) => `${call} ${ours[call] ?? 0} against ${twin[call] ?? 0}`);
    const kernel = Object.fromEntries(Object.entries(twin).filter(([call]) => !ofNode.test(call)));
    const difference = differing.length === 0 ? 'ours: the same' : `ours differ: ${differing.join(', ')}`;
    paragraphs.push(`- **${name}** — ${shown(kernel)}. (${difference}.)`);
  }
  return paragraphs.join('\n');
}
