// A tree as it was when it was read: to tell whether it still is, and to remove exactly that and nothing
// else.
#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "result.h"

namespace overlayfs {

// What changes with every change of an inode, its time of change above all. Directories have no numbers here:
// theirs may change while nobody changes them (Documentation/filesystems/overlayfs.rst, "Inode properties").
struct Look {
  uint64_t device = 0, inode = 0, links = 0, size = 0, special = 0;
  uint32_t mode = 0, uid = 0, gid = 0;
  int64_t modified = 0, changed = 0;  // nanoseconds

  Look() = default;
  explicit Look(const struct stat& st);
  bool operator==(const Look&) const = default;
  bool is_directory() const { return S_ISDIR(mode); }
  // The same but for what the removal of another of its names changes.
  bool same_but_for_links(const Look& other) const;
};

struct RecordedEntry {
  std::string name;
  Look look;
  std::vector<RecordedEntry> children;  // by name
};

// The names in an open directory, sorted as bytes.
Result<std::vector<std::string>> sorted_names(int directory);

// ESTALE, with the path, where anything is not as it was recorded. Paths begin with `path`, that of the tree.
Result<void> verify_tree(int parent, const RecordedEntry& tree, const std::string& path);

// What could not be removed, or was not what had been recorded.
struct Remains {
  uint64_t count = 0;
  std::vector<std::string> paths;  // the first few
  std::optional<SysError> why;     // the first reason
};

// Goes on whatever happens, never across a mount, and takes what is gone already for removed.
Remains remove_tree(int parent, const RecordedEntry& tree, const std::string& path);

// Removes all that is in a directory (any descriptor), never across a mount; the first error ends it.
Result<void> remove_content(int any_directory);

}  // namespace overlayfs
