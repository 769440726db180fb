#!/bin/sh
# Runs Node.js in a mount namespace of its own: while one test file mounts, another's `unshare --mount` would take a copy
# of its overlays along, and the kernel would call their uppers in use until that process ends.
exec unshare --mount --propagation private -- "$OVERLAYFS_TEST_NODE" "$@"
