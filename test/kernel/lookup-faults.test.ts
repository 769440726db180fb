// Looking into layers where system calls are missing or fail: the same answers by another way, or an error, never half of one.

import { expect, it } from 'vitest';
import { type LayerStack, mergedView, whichLayer } from '../../lib/index.ts';
import { type Fault, plan } from '../support/faults.ts'; // first: it chooses the addon
import { describePrivileged } from '../support/needs.ts';
import { type Scratch, scratchOn } from '../support/scratch.ts';
import { setXattr } from '../support/xattr.ts';

describePrivileged('looking into layers', () => {
  const scratch = scratchOn();

  it('gives the same answers without statx(2) and openat2(2)', async () => {
    const layers = await makeLayers(scratch);
    const before = [await whichLayer(layers, 'moved/f'), await listing(layers)];
    plan({ call: 'statx', error: 'ENOSYS' }, { call: 'openat2', error: 'ENOSYS' });
    expect([await whichLayer(layers, 'moved/f'), await listing(layers)]).toEqual(before);
  });

  it.each([
    'statx',
    'openat',
    'openat2',
    'getxattrat',
    'lgetxattr',
    'llistxattr',
    'getdents64',
    'name_to_handle_at',
  ])('tells of every %s(2) that fails', async (call) => {
    const layers = { ...(await makeLayers(scratch)), index: true };
    const before = await answers(layers);
    for (let skip = 0; skip < 40; skip++) {
      plan(...(older[call] ?? []), { call, error: 'EIO', skip, times: 1 });
      const after = await answers(layers).catch((error: unknown) => error);
      if (after instanceof Error) {
        expect(after).toMatchObject({ errno: -5, message: expect.stringMatching(/EIO/) });
      } else if (!marks.includes(call)) expect(after).toEqual(before);
    }
  });
});

// What cannot be read is no mark to the kernel either, and a layer without file handles has no index.
const marks = ['getxattrat', 'lgetxattr', 'name_to_handle_at'];
// Only called where what came later is missing.
const older: Readonly<Record<string, readonly Fault[]>> = {
  lgetxattr: [{ call: 'getxattrat', error: 'ENOSYS' }],
};

// One after the other: what fails leaves nothing behind that runs still. What layers are called may not be known.
async function answers(layers: LayerStack): Promise<unknown> {
  const { place, merged, way, exists } = await whichLayer(layers, 'moved/f');
  return {
    place: place?.path,
    merged: merged.length,
    way: way.length,
    exists,
    listed: await listing(layers),
  };
}

async function makeLayers({ directory, file }: Scratch) {
  file('two/d/f', 'content');
  file('two/empty');
  await setXattr(directory('upper/moved'), 'trusted.overlay.redirect', 'd');
  return { lower: [directory('one'), directory('two')], upper: directory('upper'), work: directory('work') };
}

async function listing(layers: LayerStack): Promise<string[]> {
  await using view = await mergedView(layers);
  const found: string[] = [];
  for await (const { path, type } of view.walk('.', { stats: true })) found.push(`${path} ${type}`);
  return found;
}
