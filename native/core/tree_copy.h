// The copy of a whole tree of an overlay through its mount, and the record of what was copied. What would not
// survive being copied is refused.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <utility>

#include "copy_entry.h"
#include "progress.h"
#include "recorded_tree.h"

namespace overlayfs {

class TreeCopy {
 public:
  // Paths in errors begin with `path`, that of the tree.
  TreeCopy(std::string path, const Cancel& cancel, const std::function<bool()>& exiting, Progress progress);

  // `from` is a directory; its copy is made under `name` in `to`, which nobody else can reach.
  Result<RecordedEntry> copy(int from_parent, const std::string& from_name, int to, const std::string& name);

  // Whether the error says that the tree must not be copied, and not that it could not be.
  bool refused() const { return refused_; }
  uint64_t entries() const { return progress_->entries; }
  uint64_t bytes() const { return progress_->bytes; }

 private:
  Result<RecordedEntry> copy_into(int from_parent, const std::string& from_name, int to,
                                  const std::string& name, size_t depth);
  Result<void> copy_directory(const Source& from, RecordedEntry& entry, int to, const std::string& name,
                              size_t depth);
  Result<void> copy_other(const Source& from, const Look& look, int to, const std::string& name);
  Result<bool> link_to_copy(const Look& look, int to, const std::string& name);
  Result<void> check(const Source& from);
  SysError refuse(int error, const char* call, const char* why);

  struct Linked {
    Look look;
    std::string path;  // of the copy, below the staging directory
  };

  std::string path_;       // of the entry that is being copied, in the overlay …
  std::string copy_path_;  // … and of its copy, below the staging directory
  const std::function<bool()>& exiting_;
  Progress progress_;
  CopyOptions options_;
  int staging_ = -1;
  std::map<std::pair<uint64_t, uint64_t>, Linked> linked_;  // files with several names, by device and inode
  bool refused_ = false;
};

}  // namespace overlayfs
