// How much a layer takes: a walk over all that lies below a directory.
#pragma once

#include <cstdint>

#include "cancel.h"
#include "result.h"

namespace overlayfs {

struct LayerUsage {
  uint64_t apparent = 0;   // sizes, each inode once; without directories
  uint64_t allocated = 0;  // bytes on disk, with directories
  uint64_t inodes = 0;
  // Of `allocated`, where asked for: in files with names outside the layer; in extents that others share.
  uint64_t hard_linked = 0, reflinked = 0;
};

// `directory` is a readable descriptor. What is mounted below is not looked into. `tree`, if it is not -1, is
// a tree that has been linked together from the layer and others: of that count its directories, what is
// linked from nowhere, and the names of what the layer has.
Result<LayerUsage> measure_layer(int directory, int tree, bool shared, const Cancel& cancel);

}  // namespace overlayfs
