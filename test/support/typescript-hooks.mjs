import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';

const lib = new URL('../../lib/', import.meta.url).href;
const dist = new URL('../../dist/', import.meta.url).href;

/** In a VM the compiler takes twenty seconds to load: with OVERLAYFS_TEST_BUILT, dist/ stands for lib/. */
export async function resolve(specifier, context, next) {
  const found = await next(specifier, context);
  if (process.env.OVERLAYFS_TEST_BUILT !== '1' || !found.url.startsWith(lib)) return found;
  return { ...found, format: 'module', url: found.url.replace(lib, dist).replace(/\.ts$/, '.js') };
}

/** Takes the types out of a TypeScript module; everything else goes the usual way. */
export async function load(url, context, next) {
  if (!url.startsWith('file:') || !url.endsWith('.ts')) return next(url, context);
  const { default: typescript } = await import('typescript');
  const { ModuleKind, ScriptTarget } = typescript;
  const compilerOptions = {
    module: ModuleKind.ESNext,
    target: ScriptTarget.ES2022,
    verbatimModuleSyntax: true,
  };
  const text = await readFile(fileURLToPath(url), 'utf8');
  const { outputText } = typescript.transpileModule(text, { compilerOptions, fileName: url });
  return { format: 'module', source: outputText, shortCircuit: true };
}
