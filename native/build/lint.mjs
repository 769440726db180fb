// clang-format and clang-tidy over native/. With --format, rewrites the layout and checks nothing else; with --deep, clang's
// analyser follows each function as far as it ever does, which takes twice as long.
import { execFile } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { promisify } from 'node:util';
import { root, run, runNode } from './run.mjs';
import { clangRuntime, requirePackages } from './tools.mjs';

const sources = ['core', 'binding', 'fuzz'].flatMap((folder) =>
  readdirSync(`${root}native`, { recursive: true })
    .filter((file) => file.startsWith(`${folder}/`) && /\.(cc|h)$/.test(file))
    .map((file) => `native/${file}`),
);

// A quarter of the analyser's own limit of states for one function.
const bounded = ['-Xclang', '-analyzer-config', '-Xclang', 'max-nodes=50000'].map(
  (one) => `--extra-arg=${one}`,
);
const depth = process.argv.includes('--deep') ? [] : bounded;

if (process.argv.includes('--format')) {
  requirePackages(['clang-format']);
  run('clang-format', ['-i', ...sources]);
} else {
  requirePackages(['clang', 'clang-tidy', 'clang-format', clangRuntime]);
  run('clang-format', ['--dry-run', '--Werror', ...sources]);
  runNode('native/build/cmake.mjs', ['database']);
  await tidy(sources.filter((file) => file.endsWith('.cc')));
}

/** One clang-tidy for each processor, so that a file's complaints stay together. */
async function tidy(files) {
  const waiting = [...files];
  const work = async () => {
    for (let file = waiting.shift(); file; file = waiting.shift()) {
      try {
        await promisify(execFile)('clang-tidy', ['--quiet', '-p', '.build/database', ...depth, file], {
          cwd: root,
        });
      } catch (error) {
        console.error(error.stdout || error.message);
        process.exitCode = 1;
      }
    }
  };
  await Promise.all(Array.from({ length: availableParallelism() }, work));
}
