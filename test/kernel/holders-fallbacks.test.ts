/** Who holds a mount, on kernels that tell less, and when /proc cannot be read. */
import { describe, expect, it } from 'vitest';
import { holders, mountOverlay } from '../../lib/index.ts';
import { clear, type Fault, plan } from '../support/faults.ts';
import { waitingCat } from '../support/holding.ts';
import { describePrivileged } from '../support/needs.ts';
import { afterThisTest, scratchOn } from '../support/scratch.ts';

describePrivileged('holders() without', () => {
  const scratch = scratchOn('tmpfs');

  const mounted = async () => {
    const overlay = await mountOverlay(scratch.layers());
    afterThisTest(() => overlay.unmount({ timeout: 1000 }));
    return { overlay, target: overlay.path() };
  };

  const lacking = (fault: Fault) => {
    plan(fault);
    afterThisTest(clear);
  };

  it('statx(2): open files by fdinfo, directories by their device', async () => {
    const { target } = await mounted();
    await using shell = await waitingCat(`mkdir ${target}/sub; cd ${target}/sub; exec 7<${target}/hello`);
    lacking({ call: 'statx', error: 'ENOSYS' });
    const found = (await holders(target)).filter(({ pid }) => pid === shell.pid);
    expect(found).toMatchObject([
      { kind: 'cwd', path: `${target}/sub` },
      { kind: 'fd', path: `${target}/hello`, mode: 'r' },
    ]);
  });

  it('statmount(2): by mountinfo', async () => {
    const { target } = await mounted();
    await using shell = await waitingCat(`cd ${target}`);
    lacking({ call: 'statmount', error: 'ENOSYS' });
    expect((await holders(target)).filter(({ pid }) => pid === shell.pid)).toMatchObject([{ kind: 'cwd' }]);
  });

  describe('/proc', () => {
    it('says which of it could not be read', async () => {
      const { overlay, target } = await mounted();
      await using _ = await waitingCat(`cd ${target}`);
      lacking({ call: 'readlinkat', error: 'EIO' });
      const found = await holders(overlay);
      expect([...found]).toEqual([]);
      expect(found.unseen).toMatchObject([{ why: 'EIO', pids: [] }]);
    });

    it('leaves ERR_OVERLAY_BUSY as it is', async () => {
      const { overlay, target } = await mounted();
      await using _ = await waitingCat(`cd ${target}`);
      lacking({ call: 'getdents64', error: 'EIO' });
      await expect(overlay.unmount({ timeout: 0 })).rejects.toMatchObject({
        code: 'ERR_OVERLAY_BUSY',
        message: expect.stringContaining(`${target} is busy: a file in it is open`),
      });
    });
  });
});
