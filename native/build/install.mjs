// npm's install script. Does what node-gyp-build does: a prebuilt binary that loads here is enough, otherwise it compiles.
// Off Linux there is nothing to build: the package still installs and imports, and only a call throws.
import { createRequire } from 'node:module';
import { nativeEnvironment } from './headers.mjs';
import { attempt, runNode } from './run.mjs';

if (process.platform === 'linux') {
  const { resolve } = createRequire(import.meta.url);
  const asked = process.env.npm_config_build_from_source === 'true';
  const loads = () =>
    attempt(process.execPath, [resolve('node-gyp-build/build-test.js')], { stdio: 'ignore' }) === 0;
  if (asked || !loads()) {
    const environment = {
      ...nativeEnvironment(),
      npm_config_build_from_source: 'true',
      // A compiler newer than ours may know more warnings: no reason to fail on a user's machine.
      CXXFLAGS: `${process.env.CXXFLAGS ?? ''} -Wno-error`,
    };
    runNode(resolve('node-gyp-build/bin.js'), [], { env: environment });
  }
}
