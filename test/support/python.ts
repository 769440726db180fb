/**
 * Python as a witness that is not the package: its os module knows extended attributes, nanoseconds and device nodes, and
 * what it says was not decoded by the code under test. One process for each program: starting one takes longer than most
 * tests.
 */
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';

/**
 * Starts, at the first call, a program that answers each line of JSON with one. Text stands for bytes as latin1. What
 * `answer(request)` of the program raises fails the call.
 */
export function python<Request, Answer>(program: string): (request: Request) => Promise<Answer> {
  let send: ((line: string) => Promise<string>) | undefined;
  // Answers come in the order of the requests: one at a time.
  let before: Promise<unknown> = Promise.resolve();
  return (request) => {
    send ??= start(`${program}\n${loop}`);
    const answer = before.then(() => send?.(JSON.stringify(request))).then(read<Answer>);
    before = answer.catch(() => {});
    return answer;
  };
}

const loop = `
import json, sys, traceback
for line in sys.stdin:
    try: said = dict(answer=answer(json.loads(line)))
    except Exception: said = dict(error=traceback.format_exc())
    print(json.dumps(said), flush=True)
`;

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
