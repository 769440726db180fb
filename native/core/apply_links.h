// Hard links that the changes make to files that are no change themselves.
#pragma once

#include <vector>

#include "apply.h"

namespace overlayfs {

// Appends a change without a difference for each name that shares an inode of the upper with one of the
// changes, and that the target has as the after-view does: it gets the same new inode. The upper is read for
// that, if the changes do not name all that an inode has. Under an index `inodes` says by which names the
// target has the very inode, where nothing of it differs: then the changes are linked to one of them.
Result<void> complete_link_groups(std::vector<ApplyChange>& changes, const MergedLayers& layers,
                                  TargetTree& target, KeptInodes& inodes, const Cancel& cancel);

}  // namespace overlayfs
