/**
 * Other processes for tests: shells that mount or hold something, and children that use the package.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

const here = (file: string) => fileURLToPath(new URL(file, import.meta.url));

const built = process.env.OVERLAYFS_TEST_BUILT === '1';
const hooks = new URL('typescript.mjs', import.meta.url).href;

/** A module of the package, such as `index`, as a child imports it: out of dist/ where that stands for lib/. */
export function moduleUrl(name: string): string {
  return new URL(`../../${built ? `dist/${name}.js` : `lib/${name}.ts`}`, import.meta.url).href;
}

/** Code that imports such a module where nothing else has been imported, as in a worker. */
export function importing(name: string): string {
  const module = `import(${JSON.stringify(moduleUrl(name))})`;
  return built ? module : `import(${JSON.stringify(hooks)}).then(() => ${module})`;
}

/** How a child imports the TypeScript sources. */
export const importTypeScript: readonly string[] = ['--import', hooks];

/** A process that has got as far as the test wants it and waits; disposing of it ends it. */
export interface Waiting extends AsyncDisposable {
  readonly pid: number;
  /** What it printed before it said that it is ready. */
  readonly said: string;
}

/** Runs a shell script, through other commands if given (`['unshare', '-m']`), until it stands and waits. */
export async function waitingShell(script: string, through: readonly string[] = []): Promise<Waiting> {
  const [command = 'sh', ...args] = [...through, 'sh', '-euc', `${script}\necho ready; exec cat`];
  const child = spawn(command, args, { stdio: ['pipe', 'pipe', 'inherit'] });
  const said = await untilReady(child);
  return {
    pid: child.pid ?? 0,
    said,
    [Symbol.asyncDispose]: async () => {
      const ended = once(child, 'exit');
      child.stdin?.end();
      await ended;
    },
  };
}

/**
 * A shell that swaps `own` in a directory for `link`, a symbolic link that leads to `outside`, and back, again and again
 * until it is disposed of.
 */
export async function swappingShell(directory: string, outside: string): Promise<AsyncDisposable> {
  const script = `ln -s "$1" link; echo ready
    while :; do mv -T own aside && mv -T link own && mv -T own link && mv -T aside own || :; done`;
  const child = spawn('sh', ['-euc', script, 'sh', outside], {
    cwd: directory,
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  await untilReady(child);
  return {
    [Symbol.asyncDispose]: async () => {
      const ended = once(child, 'exit');
      child.kill('SIGKILL');
      await ended;
    },
  };
}

/**
 * Runs a module in which `overlayfs` is this package, and resolves with the value that it hands to `report`. `through`
 * are commands to run it by; `native` an addon other than the usual one.
 */
export async function runChild<T>(
  body: string,
  {
    through = [],
    args = [],
    env = {},
  }: { through?: readonly string[]; args?: readonly string[]; env?: NodeJS.ProcessEnv } = {},
): Promise<T> {
  const module = `import * as overlayfs from ${JSON.stringify(moduleUrl('index'))};
const report = (value) => console.log('report:' + JSON.stringify(value, (_, v) => (typeof v === 'bigint' ? String(v) : v)));
${body}`;
  const node = [
    process.execPath,
    ...(built ? [] : importTypeScript),
    '--input-type=module',
    '--eval',
    module,
    '--',
    ...args,
  ];
  const [command = '', ...rest] = [...through, ...node];
  const child = spawn(command, rest, {
    cwd: here('../..'),
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, ...env },
  });
  const [out, errors] = [collect(child.stdout), collect(child.stderr)];
  await once(child, 'close');
  const line = out()
    .split('\n')
    .find((one) => one.startsWith('report:'));
  if (line === undefined) throw new Error(`the child reported nothing:\n${out()}${errors()}`);
  return JSON.parse(line.slice('report:'.length)) as T;
}

async function untilReady(child: ChildProcess): Promise<string> {
  let said = '';
  for await (const chunk of child.stdout ?? []) {
    said += chunk;
    if (said.endsWith('ready\n')) return said.slice(0, -'ready\n'.length);
  }
  throw new Error(`the shell ended before it was ready: ${said}`);
}

function collect(stream: NodeJS.ReadableStream | null): () => string {
  let text = '';
  stream?.on('data', (chunk) => {
    text += chunk;
  });
  return () => text;
}
