// What was renamed: found before the changes are told, since a change may be told before or after the place
// that it comes from.
#pragma once

#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "result.h"

namespace overlayfs {

struct ChangeContext;

// Directories by their redirects; other entries by the origin that the kernel keeps of what it has copied up,
// where a path that the upper hides has the same file handle.
//
// Memory: the two paths and about 200 bytes for each renamed entry, and while they are looked for the path
// and about 200 bytes for each entry whose origin is not what lies below it: of these at most
// kMostCandidates.
class Renames {
 public:
  static constexpr size_t kMostCandidates = size_t{1} << 18;

  // Where in the before-view the entry at this path was; null: it was not renamed.
  const std::string* from(const std::string& path) const;
  // Whether what the before-view has at this path is now elsewhere.
  bool moved(const std::string& before) const { return moved_.contains(before); }
  bool cut() const { return cut_; }

  // Walks the upper; once, before anything is asked.
  Result<void> find(ChangeContext& context);

 private:
  friend class RenameSearch;
  std::unordered_map<std::string, std::string> from_;
  std::unordered_set<std::string> moved_;
  bool cut_ = false;
};

}  // namespace overlayfs
