// Directories that lie inside each other: an upper or work directory inside a lower, which the kernel would
// accept in silence, and upper and work, which it would not.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "directory.h"

namespace overlayfs {

struct OpenLayer {
  Fd fd;
  std::string path;  // as the caller named it; empty when given by descriptor
  DirectoryIdentity identity;
};

struct Containment {
  std::optional<size_t> outer;  // index of the lower that `inner` lies in
  bool verified = true;         // false: a layer is on a mount that this namespace does not show
};

// Compared as (superblock, path within the file system), since a bind mount hides the containment from `..`.
Result<Containment> find_containing_lower(const OpenLayer& inner, const std::vector<OpenLayer>& lower);

// Of two directories on one mount.
Result<bool> are_separate(const OpenLayer& one, const OpenLayer& other);

}  // namespace overlayfs
