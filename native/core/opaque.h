// Directories of a layer that nothing below shows through.
#pragma once

#include <string>
#include <string_view>
#include <unordered_map>

#include "layer_batch.h"
#include "overlay_xattr.h"

namespace overlayfs {

enum class OpaqueForm : char {
  none = 1,
  xattr,           // overlay.opaque=y: the only one that the kernel honours
  fuse_overlayfs,  // user.fuseoverlayfs.opaque
  aufs             // a file named .wh..wh..opq
};

// The kernel's mark on an open directory.
Result<Opaque> opaque_mark(int directory, const std::string& xattr_prefix);
Result<void> set_opaque_mark(int directory, const std::string& xattr_prefix, char mark);

// Whether a directory lies in an opaque one, or is one: asked once for each directory. The mark of a layer's
// root says nothing, since the kernel does not look at it.
class OpaqueAncestors {
 public:
  OpaqueAncestors(int layer, std::string xattr_prefix) : layer_(layer), prefix_(std::move(xattr_prefix)) {}
  Result<bool> cover(std::string_view path);

 private:
  int layer_;
  std::string prefix_;
  std::unordered_map<std::string, bool> known_;
};

// The outcome of each is an OpaqueForm: what was there before.
Batch set_opaque(int layer, const std::vector<std::string>& paths, const std::string& xattr_prefix,
                 const Cancel& cancel);
Batch clear_opaque(int layer, const std::vector<std::string>& paths, const std::string& xattr_prefix,
                   const Cancel& cancel);
Batch opaque_forms(int layer, const std::vector<std::string>& paths, const std::string& xattr_prefix,
                   const Cancel& cancel);

}  // namespace overlayfs
