// Which layer serves a path of the merged view, the way there, and what lies hidden below it.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "merged_lookup.h"

namespace overlayfs {

struct LayerPlace {
  size_t layer = 0;  // as in LayerDirectory; kIndexLayer is work/index
  std::string path;
};

// What has a say in where the path comes from, in the order of the look-up.
struct LayerStep {
  enum class Kind { opaque, redirect, metacopy, index, whiteout, xattr_whiteout } kind;
  LayerPlace place;
  std::string redirect;
};

// Something of that name, or of a directory above it, that does not show through.
struct HiddenPlace {
  enum class Why {
    whiteout,
    opaque,
    redirect,   // the directory above merges with another one
    file,       // what stands above, or beside it between the two, is no directory
    directory,  // what stands above is a directory, and this is none
  } why;
  LayerPlace place;
  uint16_t mode = 0;
  LayerPlace by;
};

// An attribute that says something which these options do not make heard.
struct IgnoredXattr {
  enum class Why {
    other_namespace,  // user.overlay.* where trusted.overlay.* is read, or the reverse
    opaque_value,     // neither `y` nor, in a lower layer, `x`
    index_off,        // the file is in work/index, or its number of links is, and the index is not read
    fuse_overlayfs,   // of fuse-overlayfs alone
  } why;
  LayerPlace place;
  std::string name, value;
};

struct WhichLayer {
  int err = 0;                       // what the kernel answers: 0, ENOENT, ENOTDIR, or that of `refused`
  std::optional<Refused> refused;    // on the way, or of the path itself
  uint16_t mode = 0;                 // of one that exists
  std::optional<LayerPlace> serves;  // its metadata, and its content but for:
  std::optional<LayerPlace> data;    // of a metacopy file
  int data_err = 0;                  // what opening it answers, though it exists
  std::vector<LayerPlace> merged;    // of a directory: what it is made of, topmost first
  std::vector<LayerStep> way;
  std::vector<HiddenPlace> hidden;
  std::vector<IgnoredXattr> ignored;
};

// `path` as names alone: no leading slash, no `.`, no `..`. No symbolic link is followed: where one is on the
// way the answer is ENOTDIR.
Result<WhichLayer> which_layer(const MergedLayers& layers, const std::string& path);

}  // namespace overlayfs
