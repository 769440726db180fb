// The binaries that `npm run prebuild` makes: they must load wherever Node itself does.
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';

// Node 20's own floor, as its release binaries and BUILDING.md have it.
const floor: Record<string, string> = { GLIBC: '2.28', GLIBCXX: '3.4.25', CXXABI: '1.3.11' };

for (const arch of ['x64', 'arm64']) {
  const binary = fileURLToPath(
    new URL(`../../prebuilds/linux-${arch}/overlayfs.glibc.node`, import.meta.url),
  );
  const readelf = (option: string): string =>
    execFileSync('readelf', [option, '--wide', binary], { encoding: 'utf8' });

  // In CI (strict) a binary that was not made is a failure.
  describe.skipIf(!existsSync(binary) && !process.env.OVERLAYFS_TEST_STRICT)(
    `the prebuilt binary for linux-${arch} (made by npm run prebuild)`,
    () => {
      it('needs no newer C and C++ library than Node 20 does', () => {
        const needed = [...readelf('--version-info').matchAll(/Name: (GLIBC|GLIBCXX|CXXABI)_([\d.]+)/g)];
        const tooNew = needed.filter(([, library = '', version = '']) =>
          newer(version, floor[library] ?? '0'),
        );
        expect(needed.length).toBeGreaterThan(0);
        expect(tooNew.map(([name]) => name)).toEqual([]);
      });

      it('shows the two entry points of Node-API and nothing else', () => {
        const shown = readelf('--dyn-syms')
          .split('\n')
          .filter((line) => /\b(GLOBAL|WEAK|UNIQUE)\b/.test(line) && !line.includes(' UND '))
          .map((line) => line.trim().split(/\s+/).at(-1));
        expect(shown.sort()).toEqual(['napi_register_module_v1', 'node_api_module_get_api_version_v1']);
      });

      it('is stripped', () => {
        expect(readelf('--section-headers')).not.toMatch(/\.(symtab|debug_info)\b/);
      });
    },
  );
}

function newer(version: string, than: string): boolean {
  const [a, b] = [version, than].map((text) => text.split('.').map(Number));
  for (let i = 0; i < 3; i++) {
    const difference = (a?.[i] ?? 0) - (b?.[i] ?? 0);
    if (difference !== 0) return difference > 0;
  }
  return false;
}
