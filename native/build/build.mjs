// The release build: binding.gyp through node-gyp, into build/Release.
import { nativeEnvironment } from './headers.mjs';
import { run, tool } from './run.mjs';
import { requirePackages } from './tools.mjs';

requirePackages(['g++', 'make', 'python3']);
run(tool('node-gyp'), ['configure', 'build', '--release', '--loglevel=warn'], { env: nativeEnvironment() });
