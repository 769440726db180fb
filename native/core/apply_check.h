// What applyChanges() asks before it changes anything: where each change belongs, and whether the target is
// there as the before-view has it.
#pragma once

#include <vector>

#include "apply.h"

namespace overlayfs {

// In the order of paths, what is in a directory right behind it.
std::vector<ApplyPlace> place_changes(const std::vector<ApplyChange>& changes);

// Of the first `given` changes: of the others it is known that the target has them.
Result<std::vector<Conflict>> find_conflicts(const std::vector<ApplyChange>& changes, size_t given,
                                             const std::vector<ApplyPlace>& places,
                                             const MergedLayers& layers, TargetTree& target,
                                             const Cancel& cancel, std::atomic<uint64_t>& done);

}  // namespace overlayfs
