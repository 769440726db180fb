// The layers of an overlay and the options that they are read with: what a layer means depends on both.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "directory.h"

namespace overlayfs {

enum class RedirectDir { on, follow, nofollow };

struct LayerStack {
  std::vector<DirectoryRef> lower;  // topmost first
  std::vector<DirectoryRef> data_only;
  std::optional<DirectoryRef> upper, work;
  bool index = false, metacopy = false, userxattr = false;
  RedirectDir redirect_dir = RedirectDir::follow;

  // What the names of the overlay's own attributes begin with.
  const char* xattr_prefix() const { return userxattr ? "user.overlay." : "trusted.overlay."; }
};

}  // namespace overlayfs
