// The copy of a whole layer: of what lies in a directory, and not of what an overlay would show of it.
// Whiteouts and opaque marks are part of it; what the kernel notes for an upper's own use is not.
#pragma once

#include <string>

#include "cancel.h"
#include "progress.h"
#include "result.h"

namespace overlayfs {

struct LayerCopyOptions {
  std::string xattr_prefix;  // "trusted.overlay." or "user.overlay."
  Cancel cancel;
  Progress progress;
};

// Fills the empty directory `to`, and gives it the metadata of `from`; both are readable descriptors. Hard
// links inside the layer stay links, holes stay holes, data is cloned where the file system can. Nothing
// mounted below is crossed: EXDEV. A file whose data lies in another layer (metacopy) is EOPNOTSUPP.
Result<void> copy_layer(int from, int to, const LayerCopyOptions& options);

}  // namespace overlayfs
