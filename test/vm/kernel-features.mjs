// What each feature that support() tells of is used for, and what is done without it.
export const kernelFeatures = {
  fsopen: {
    what: '`fsopen` `fsconfig` `fsmount` `move_mount`',
    use: 'creating detached, attaching when verified',
    without: 'mount(2), verified right after; no detached views',
  },
  nativeOptions: {
    what: 'overlayfs reads its own options',
    use: "errors at the option, with the kernel's words; data-only layers",
    without: 'mount(2); which option is refused is found by trying each alone',
  },
  lowerdirAppend: {
    what: '`lowerdir+`',
    use: 'one name per layer, no escaping',
    without: 'one `lowerdir=` string, escaped',
  },
  layerFds: { what: 'layers as descriptors', use: 'rung `layer-fds`', without: 'names' },
  layerFdsByPath: {
    what: 'layers as `O_PATH` descriptors',
    use: 'rung `layer-fds`, without opening anything for reading',
    without: 'opened again for reading',
  },
  detachedLayers: {
    what: 'layers on detached mounts',
    use: 'scratch that no path ever leads to',
    without: 'a private 0700 directory under /tmp, detached lazily after creating',
  },
  uniqueMountIds: {
    what: 'unique mount ids, `statmount`',
    use: 'unmounting by identity, finding a moved mount',
    without: "mountinfo ids, with the root's device and inode beside",
  },
};
