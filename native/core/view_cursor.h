// Paths of a merged view, looked up one after the other: what leads to the last one is remembered, so that
// paths in order cost one look-up each.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "merged_lookup.h"

namespace overlayfs {

class ViewCursor {
 public:
  // From layer 1 on it is the view of the lowers alone.
  ViewCursor(const MergedLayers& layers, size_t first_layer)
      : layers_(layers), first_layer_(first_layer), root_(layers.root(first_layer)) {}

  // Nothing there, also where what leads there is no directory: an entry that does not exist. The root has no
  // entry: root() is it.
  Result<MergedEntry> lookup(const std::string& path);
  const MergedDirectory& root() const { return root_; }

  // The names that a directory of the view may show, in byte order; some may be hidden by whiteouts.
  static Result<std::set<std::string>> names_in(const MergedDirectory& directory);
  Result<MergedEntry> lookup_in(const MergedDirectory& directory, const std::string& name) const;

 private:
  struct Level {
    std::string name;
    MergedDirectory directory;  // empty: no directory is there
  };

  const MergedLayers& layers_;
  size_t first_layer_;
  MergedDirectory root_;
  std::vector<Level> levels_;
};

// The kernel's own refusal as the error that it gives.
SysError refusal_error(const Refused& refused, const std::string& path);

}  // namespace overlayfs
