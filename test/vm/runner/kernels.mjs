// The kernels that can be had, and the machines that they run on.

/** Debian's cloud kernels; the package named here depends on the newest of its series. */
export const kernels = {
  6.1: { arch: 'amd64', package: 'linux-image-cloud-amd64' },
  6.12: { arch: 'amd64', package: 'linux-image-6.12-cloud-amd64' },
  'arm64-6.1': { arch: 'arm64', package: 'linux-image-cloud-arm64' },
  'arm64-6.12': { arch: 'arm64', package: 'linux-image-6.12-cloud-arm64' },
};

/**
 * What qemu calls them. Its `max` for arm64 has pointer authentication: emulated, that takes most of the time, and the
 * machine code that V8 makes crashes under it now and then.
 */
export const machines = {
  amd64: { program: 'qemu-system-x86_64', machine: 'q35', cpu: 'max', console: 'ttyS0' },
  arm64: { program: 'qemu-system-aarch64', machine: 'virt', cpu: 'neoverse-n1', console: 'ttyAMA0' },
};

/** No VM: this machine's kernel, in private namespaces. */
export const host = 'host';

export const kernelNames = [...Object.keys(kernels), host];
