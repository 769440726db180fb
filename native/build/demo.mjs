// npm run demo: from a fresh clone to the story that lib/cli/demo.ts tells. Only Node's own modules before `npm ci`.
import { existsSync } from 'node:fs';
import { root, run, runNode } from './run.mjs';
import { requirePackages } from './tools.mjs';

requirePackages(['g++', 'make', 'python3']);
if (!existsSync(`${root}node_modules`)) run('npm', ['ci', '--ignore-scripts', '--no-audit', '--no-fund']);
run('npm', ['run', '--silent', 'build:all']);
runNode('dist/cli/main.js', ['demo', ...process.argv.slice(2)]);
