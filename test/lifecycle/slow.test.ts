import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { mountOverlay } from '../../lib/index.ts';
import { lifecycle } from './support.ts';

lifecycle('Slow unmounts', (site) => {
  test('Unmounts that take long leave libuv’s threads free.', async () => {
    const directory = join(site.root(), 'frozen');
    const image = `${directory}.img`;
    mkdirSync(directory);
    execFileSync('truncate', ['--size=16M', image]);
    execFileSync('mkfs.ext4', ['-q', image]);
    execFileSync('mount', ['-o', 'loop', image, directory]);
    const { lower } = site.layers();
    // The targets were made for the mounts: to remove them again, an unmount must write to the file system that they are on.
    const targets = Array.from({ length: 16 }, (_, i) => join(directory, String(i)));
    const overlays = await Promise.all(
      targets.map((target) => mountOverlay({ lower, scratch: true, target, mkdirTarget: true })),
    );
    let done = 0;
    execFileSync('fsfreeze', ['--freeze', directory]);
    const unmounting = overlays.map((overlay) => overlay.unmount().then(() => done++));
    try {
      for (let i = 0; i < 16; i++) await stat(site.root());
      expect(done).toBe(0);
    } finally {
      execFileSync('fsfreeze', ['--unfreeze', directory]);
    }
    await Promise.all(unmounting);
    expect(targets.filter(existsSync)).toEqual([]);
    execFileSync('umount', [directory]);
  });
});
