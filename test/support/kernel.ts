/** What the kernel that the tests run on is expected to be like. */
import { kernelFeatures } from '../../lib/inspect/kernel.ts';
import type { Rung } from '../../lib/native/binding.ts';

// Written down, so that the package is not its own witness. Linux 6.12 has lowerdir+ and no layer descriptors.
const rungs: Readonly<Record<string, Rung>> = {
  '6.1': 'mount',
  'arm64-6.1': 'mount',
  '6.12': 'layer-names',
  'arm64-6.12': 'layer-names',
};

/** Whether whiteouts may be files with an attribute, and attributes of overlayfs be escaped: both came with `lowerdir+`. */
export async function readsXattrWhiteouts(): Promise<boolean> {
  return (await kernelFeatures()).lowerdirAppend;
}

/** The rung that a plain mount takes here: as it is known of the kernels of test/vm, elsewhere as it is probed. */
export async function ownRung(): Promise<Rung> {
  const known = rungs[process.env.OVERLAYFS_VM ?? ''];
  if (known !== undefined) return known;
  const { layerFds, lowerdirAppend } = await kernelFeatures();
  if (layerFds !== 'none') return 'layer-fds';
  return lowerdirAppend ? 'layer-names' : 'mount';
}
