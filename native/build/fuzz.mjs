// Builds and runs the fuzzers: npm run fuzz [-- <seconds for each> [<name>]]. What they find stays in .build/fuzz/corpus.
import { existsSync, mkdirSync, readdirSync } from 'node:fs';
import { root, run, runNode } from './run.mjs';

const [seconds = '60', only] = process.argv.slice(2);
const names = readdirSync(`${root}native/fuzz`)
  .filter((file) => file.endsWith('.cc'))
  .map((file) => file.slice(0, -'.cc'.length))
  .filter((name) => !only || name === only);

runNode('native/build/cmake.mjs', ['fuzz']);
for (const name of names) {
  const corpus = `${root}.build/fuzz/corpus/${name}`;
  const seeds = `${root}native/fuzz/corpus/${name}`;
  mkdirSync(corpus, { recursive: true });
  console.log(`\n== fuzz ${name}, ${seconds} s`);
  const artifacts = `-artifact_prefix=${root}.build/fuzz/${name}-`;
  run(`${root}.build/fuzz/${name}`, [
    `-max_total_time=${seconds}`,
    artifacts,
    corpus,
    ...(existsSync(seeds) ? [seeds] : []),
  ]);
}
