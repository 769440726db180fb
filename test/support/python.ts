/**
 * Python as a witness that is not the package: its os module knows extended attributes, nanoseconds and device nodes, and
 * what it says was not decoded by the code under test. One process for each program: starting one takes longer than most
 * tests.
 */
import { execFileSync, spawn } from 'node:child_process';
import { closeSync, constants, mkdtempSync, openSync, readSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

/**
 * Starts, at the first call, a program that answers each line of JSON with one. Text stands for bytes as latin1. What
 * `answer(request)` of the program raises fails the call.
 */
export function python<Request, Answer>(program: string): (request: Request) => Promise<Answer> {
  // Answers come in the order of the requests: one at a time.
  let before: Promise<unknown> = Promise.resolve();
  return (request) => {
    const send = running(program, start);
    const answer = before.then(() => send(JSON.stringify(request))).then(read<Answer>);
    before = answer.catch(() => {});
    return answer;
  };
}

/** The same, with the answer before anything else happens. */
export function pythonNow<Request, Answer>(program: string): (request: Request) => Answer {
  return (request) => read<Answer>(running(program, startNow)(JSON.stringify(request)));
}

const loop = `
import json, sys, traceback
for line in sys.stdin:
    try: said = dict(answer=answer(json.loads(line)))
    except Exception: said = dict(error=traceback.format_exc())
    print(json.dumps(said), flush=True)
`;

// Of the process, and not of this module, which is loaded again after vi.resetModules().
const key = Symbol.for('overlayfs-test-python');
const everyProgram: Map<string, unknown> = Reflect.get(globalThis, key) ?? new Map();
Reflect.set(globalThis, key, everyProgram);

function running<Ask>(program: string, begin: (program: string) => Ask): Ask {
  const known = everyProgram.get(program) ?? begin(`${program}\n${loop}`);
  everyProgram.set(program, known);
  return known as Ask;
}

function read<Answer>(line: string | undefined): Answer {
  const { answer, error } = JSON.parse(line ?? '{}') as { answer: Answer; error?: string };
  if (error !== undefined) throw new Error(error);
  return answer;
}

function start(program: string): (line: string) => Promise<string> {
  const child = spawn('python3', ['-c', program], { stdio: ['pipe', 'pipe', 'inherit'] });
  child.unref();
  const answers = createInterface(child.stdout)[Symbol.asyncIterator]();
  return async (line) => {
    child.stdin.write(`${line}\n`);
    const { value, done } = await answers.next();
    if (done) throw new Error('python3 ended');
    return value;
  };
}

/** What the names of the pipes begin with: they stay open as long as this process lives. */
export const pipesBegin = 'overlayfs-python-';

// Node.js waits for no pipe that it has made itself: by pipes with names, which they keep for a moment.
function startNow(program: string): (line: string) => string {
  const folder = mkdtempSync(join(tmpdir(), pipesBegin));
  const [questions, answers] = [join(folder, 'questions'), join(folder, 'answers')];
  execFileSync('mkfifo', [questions, answers]);
  // While it is open for both, neither end waits for the other.
  const both = [questions, answers].map((path) => openSync(path, constants.O_RDWR));
  const [asked, asking] = [openSync(questions, constants.O_RDONLY), openSync(questions, constants.O_WRONLY)];
  const [told, answering] = [openSync(answers, constants.O_WRONLY), openSync(answers, constants.O_RDONLY)];
  rmSync(folder, { recursive: true });
  spawn('python3', ['-c', program], { stdio: [asked, told, 'inherit'], cwd: '/' }).unref();
  for (const fd of [...both, asked, told]) closeSync(fd);
  const buffer = Buffer.alloc(1 << 16);
  return (line) => {
    writeSync(asking, `${line}\n`);
    let said = '';
    while (!said.endsWith('\n')) {
      const length = readSync(answering, buffer);
      if (length === 0) throw new Error('python3 ended');
      said += buffer.toString('latin1', 0, length);
    }
    return said;
  };
}
