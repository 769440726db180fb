// What becomes of whiteouts, opaque directories and attributes when a system call fails, or is not there.
import { lstatSync, readdirSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import {
  clearOpaque,
  createWhiteout,
  createWhiteouts,
  isOpaque,
  isWhiteout,
  readOverlayXattrs,
  removeWhiteout,
  renameWithWhiteout,
  setOpaque,
  stripOverlayXattrs,
  writeOverlayXattrs,
} from '../../lib/index.ts';
import { kernelFeatures } from '../../lib/inspect/kernel.ts';
import { clear, type Fault, plan } from '../support/faults.ts';
import { describePrivileged } from '../support/needs.ts';
import { scratchOn } from '../support/scratch.ts';
import { snapshot } from '../support/snapshot.ts';
import { setXattrs } from '../support/xattr.ts';

describePrivileged('when a system call fails', () => {
  const scratch = scratchOn();
  const layer = () => {
    const path = scratch.directory('layer');
    scratch.directory('layer/dir');
    return path;
  };
  const withFaults = async <T>(faults: readonly Fault[], attempt: () => Promise<T>): Promise<T> => {
    await kernelFeatures(); // as they are, before anything fails
    plan(...faults);
    return attempt().finally(clear);
  };

  it('a shared whiteout that cannot be linked is made anew, and shared from there on', async () => {
    const path = layer();
    for (const error of ['EMLINK', 'EXDEV', 'EPERM'] as const) {
      const names = ['a', 'b', 'c', 'd'].map((name) => `${error}-${name}`);
      const { outcomes } = await withFaults([{ call: 'linkat', error, skip: 1, times: 1 }], () =>
        createWhiteouts(path, names, { share: true }),
      );
      expect(outcomes).toEqual(['made', 'linked', 'made', 'linked']);
      expect(lstatSync(join(path, `${error}-d`)).nlink).toBe(2);
    }
  });

  it('a whiteout that is a file is made without O_TMPFILE, and taken back when it cannot be marked', async () => {
    const path = layer();
    for (const error of ['EOPNOTSUPP', 'EISDIR'] as const) {
      const before = await snapshot(path);
      const fault: Fault = { call: 'openat:O_TMPFILE', error };
      await expect(
        withFaults([fault, { call: 'fsetxattr', error: 'ENOSPC' }], () =>
          createWhiteout(path, 'dir/a', { form: 'xattr' }),
        ),
      ).rejects.toMatchObject({ code: 'ENOSPC', path: 'dir/a' });
      expect(await snapshot(path)).toEqual(before);
      await withFaults([fault], () => createWhiteout(path, 'dir/a', { form: 'xattr' }));
      expect(await isWhiteout(path, 'dir/a')).toBe('xattr');
      await removeWhiteout(path, 'dir/a');
      await stripOverlayXattrs(path, 'dir');
    }
  });

  it('what stands where a whiteout is to be stays, whichever step fails', async () => {
    const path = layer();
    scratch.file('layer/file', 'content');
    scratch.directory('layer/empty');
    const before = await snapshot(path);
    const faults: Fault[] = [
      { call: 'mknodat', error: 'ENOSPC', skip: 1 },
      { call: 'renameat2', error: 'EIO', times: 1 },
    ];
    for (const fault of faults) {
      for (const name of ['file', 'empty'])
        await expect(
          withFaults([fault], () => createWhiteout(path, name, { replace: true })),
        ).rejects.toMatchObject({ path: name });
      expect(await snapshot(path)).toEqual(before);
    }
    // As if something had been made in the directory between the look and the exchange.
    await expect(
      withFaults([{ call: 'unlinkat', error: 'ENOTEMPTY', times: 2 }], () =>
        createWhiteout(path, 'empty', { replace: true }),
      ),
    ).rejects.toMatchObject({ code: 'ENOTEMPTY', path: 'empty' });
    expect(await snapshot(path)).toEqual(before);
  });

  it('the error says which, and no attribute is taken for absent', async () => {
    const path = layer();
    scratch.file('layer/empty');
    setXattrs([join(path, 'dir'), 'trusted.overlay.opaque', 'y']);
    const eio = (call: string): Fault[] => [{ call, error: 'EIO' }];
    const cases: readonly [Fault[], () => Promise<unknown>][] = [
      [eio('getxattr'), () => isOpaque(path, 'dir')],
      [eio('getxattr'), () => setOpaque(path, 'dir')],
      [eio('getxattr'), () => clearOpaque(path, 'dir')],
      [eio('getxattr'), () => createWhiteout(path, 'dir/a')],
      [eio('getxattr'), () => createWhiteout(path, 'a')],
      [eio('getxattr'), () => isWhiteout(path, 'empty')],
      [eio('getxattr'), () => removeWhiteout(path, 'empty')],
      [eio('getxattr'), () => readOverlayXattrs(path, 'dir')],
      [eio('getxattr'), () => renameWithWhiteout(path, 'empty', 'new')],
      [eio('listxattr'), () => readOverlayXattrs(path, 'dir')],
      [eio('listxattr'), () => stripOverlayXattrs(path, 'dir')],
      [eio('removexattr'), () => stripOverlayXattrs(path, 'dir')],
      [eio('removexattr'), () => clearOpaque(path, 'dir')],
      [eio('getdents64'), () => stripOverlayXattrs(path, '/', { recursive: true })],
      [eio('fstatat'), () => isWhiteout(path, 'a')],
      [eio('fstatat'), () => isOpaque(path, '/')],
      [eio('mknodat'), () => createWhiteout(path, 'a')],
      [eio('renameat2'), () => renameWithWhiteout(path, 'empty', 'new')],
      [
        eio('setxattr'),
        () => writeOverlayXattrs(path, [{ path: 'empty', xattr: { kind: 'opaque', mark: 'y' } }]),
      ],
    ];
    const before = await snapshot(path);
    for (const [faults, attempt] of cases) {
      await expect(withFaults(faults, attempt), `${faults[0]?.call}: ${attempt}`).rejects.toMatchObject({
        code: 'EIO',
      });
    }
    expect(await snapshot(path)).toEqual(before);
  });

  it('an attribute that grows while it is read is read again', async () => {
    const path = layer();
    const long = Buffer.alloc(3000, 'x');
    setXattrs([join(path, 'dir'), 'trusted.overlay.redirect', long]);
    // Two reads that are too short for it, the question for its size, and the read that it has outgrown.
    const found = await withFaults([{ call: 'getxattr', error: 'ERANGE', skip: 3, times: 1 }], () =>
      readOverlayXattrs(path, 'dir'),
    );
    expect(found).toMatchObject([{ kind: 'redirect', value: long }]);
  });

  it.each(['ENOSYS', 'EPERM'] as const)(
    'without openat2(2) (%s) the same is done, name by name',
    async (error) => {
      const path = layer();
      symlinkSync('dir', join(path, 'link'));
      await withFaults([{ call: 'openat2', error }], async () => {
        expect(await createWhiteouts(path, ['dir/a', 'b'])).toEqual({ outcomes: ['made', 'made'] });
        expect(await createWhiteout(path, 'dir/c', { form: 'xattr' })).toBe('made');
        expect(await isWhiteout(path, ['dir/a', 'dir/c'])).toEqual(['device', 'xattr']);
        for (const attempt of [() => createWhiteout(path, 'link/a'), () => setOpaque(path, 'link')])
          await expect(attempt()).rejects.toMatchObject({ code: 'ERR_OVERLAY_PATH_ESCAPES' });
      });
      expect(readdirSync(path).sort()).toEqual(['b', 'dir', 'link']);
    },
  );

  it('without descriptors it says so', async () => {
    const path = layer();
    const faults: Fault[] = [{ call: 'openat2', error: 'EMFILE' }];
    await expect(withFaults(faults, () => createWhiteout(path, 'dir/a'))).rejects.toMatchObject({
      code: 'ERR_OVERLAY_TOO_MANY_FILES',
      outcomes: [undefined],
    });
  });

  it('where it cannot be known whether the layer is in use, whiteouts that are files are made', async () => {
    const path = layer();
    expect(
      await withFaults([{ call: 'name_to_handle_at', error: 'EOPNOTSUPP' }], () =>
        createWhiteout(path, 'dir/a', { form: 'xattr' }),
      ),
    ).toBe('made');
  });
});
