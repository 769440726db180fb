/** Every example in the documentation compiles, against the package as its users see it. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';
import { describe, expect, it } from 'vitest';

const root = fileURLToPath(new URL('../../', import.meta.url));

interface Example {
  /** Where it stands: `lib/overlay/mount.ts:27`. */
  readonly name: string;
  readonly code: string;
}

const sources = readdirSync(`${root}lib`, { recursive: true, encoding: 'utf8' }).filter((file) =>
  file.endsWith('.ts'),
);
const documents = ['README.md', ...readdirSync(`${root}docs`).map((file) => `docs/${file}`)].filter(
  (file) => file.endsWith('.md') && existsSync(`${root}${file}`),
);
const examples: readonly Example[] = [...sources.map((file) => `lib/${file}`), ...documents].flatMap(
  examplesIn,
);

describe('the examples', () => {
  it('are found', () => {
    expect(examples.map(({ name }) => name.replace(/:.*/, ''))).toContain('lib/overlay/mount.ts');
  });

  // One program for all: what takes the time is reading the types of Node.js.
  const diagnostics = compile(examples);

  it.each(examples)('compile: $name', ({ name }) => {
    expect(diagnostics.get(name) ?? []).toEqual([]);
  });
});

/** The ```ts blocks of a document, or of the comments of a source file. */
function examplesIn(file: string): Example[] {
  const lines = readFileSync(`${root}${file}`, 'utf8').split('\n');
  const isSource = file.endsWith('.ts');
  const text = lines.map((line) => (isSource ? line.replace(/^\s*\* ?/, '') : line));
  const found: Example[] = [];
  text.forEach((line, at) => {
    if (line.trim() !== '```ts' || (isSource && !/^\s*\*/.test(lines[at] ?? ''))) return;
    const end = text.findIndex((other, i) => i > at && other.trim() === '```');
    found.push({ name: `${file}:${at + 1}`, code: text.slice(at + 1, end).join('\n') });
  });
  return found;
}

/** What the compiler says of each; an example is a module of its own. */
function compile(all: readonly Example[]): Map<string, string[]> {
  const config = ts.readConfigFile(`${root}tsconfig.json`, ts.sys.readFile).config as {
    compilerOptions: object;
  };
  const { options } = ts.convertCompilerOptionsFromJson(
    {
      ...config.compilerOptions,
      noEmit: true,
      rootDir: '/',
      declaration: false,
      declarationMap: false,
      allowImportingTsExtensions: true,
      paths: { overlayfs: ['./lib/index.ts'], 'overlayfs/store': ['./lib/store/index.ts'] },
    },
    root,
  );
  const files = new Map(
    all.map(({ name, code }, i) => [`${root}example-${i}.mts`, { name, code: `${code}\nexport {};\n` }]),
  );
  const host = ts.createCompilerHost(options);
  const { fileExists, readFile, getSourceFile } = host;
  host.fileExists = (file) => files.has(file) || fileExists(file);
  host.readFile = (file) => files.get(file)?.code ?? readFile(file);
  host.getSourceFile = (file, language, ...rest) => {
    const example = files.get(file);
    return example === undefined
      ? getSourceFile(file, language, ...rest)
      : ts.createSourceFile(file, example.code, language);
  };
  const program = ts.createProgram([...files.keys()], options, host);
  const said = new Map<string, string[]>();
  for (const [file, { name }] of files) {
    const source = program.getSourceFile(file);
    const found = [...program.getSyntacticDiagnostics(source), ...program.getSemanticDiagnostics(source)];
    said.set(
      name,
      found.map(({ messageText }) => ts.flattenDiagnosticMessageText(messageText, '\n')),
    );
  }
  return said;
}
