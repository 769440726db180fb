// Overlay attributes of many files of a layer at once.
#pragma once

#include <string>
#include <vector>

#include "layer_batch.h"
#include "overlay_xattr.h"

namespace overlayfs {

// One attribute, packed for JavaScript: path (u32), kind (u8, the index in OverlayXattr), length of why (u8),
// of the name (u16) and of the value (u32), little-endian; then the name behind the prefix, the value, and
// why it is malformed.
void pack_overlay_xattr(std::string& packed, size_t path, std::string_view name, std::string_view value);

struct OverlayXattrs {
  Batch batch;
  std::string packed;
};
OverlayXattrs read_overlay_xattrs(int layer, const std::vector<std::string>& paths,
                                  const std::string& xattr_prefix, const Cancel& cancel);

// Sets one attribute each, by the name behind the prefix; a path may come several times. Nothing is written
// if one of them is malformed.
struct NamedValue {
  std::string name, value;
};
Batch write_overlay_xattrs(int layer, const std::vector<std::string>& paths,
                           const std::vector<NamedValue>& values, const std::string& xattr_prefix,
                           const Cancel& cancel);

// Removes the overlay's own attributes, and with `unescape` gives the escaped ones the names that the overlay
// shows them by; `recursive` goes through directories, never over mounts.
struct StripOrder {
  std::vector<std::string> paths;
  std::string xattr_prefix;
  bool unescape = false, recursive = false;
};
struct Stripped {
  Batch batch;
  uint64_t removed = 0, unescaped = 0;
};
Stripped strip_overlay_xattrs(int layer, const StripOrder& order, const Cancel& cancel);

}  // namespace overlayfs
