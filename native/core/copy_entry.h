// One entry of a directory, of any type, made anew elsewhere with all that belongs to it. It is complete
// before it has its name: a regular file without a name at all (O_TMPFILE), anything else under a name in a
// staging directory. A FIFO or a device is never opened.
#pragma once

#include <string>
#include <vector>

#include "beneath.h"
#include "copy_data.h"
#include "copy_metadata.h"
#include "fd.h"

namespace overlayfs {

struct CopyOptions {
  MetadataOptions metadata;
  CopyControl control;
  // Where entries are made before they are put into place: a directory on the target's file system (and
  // mount) in which nobody minds the names; -1: the target directory itself.
  int staging = -1;
};

struct CopiedEntry {
  CopiedData data;                   // of a regular file
  std::vector<std::string> dropped;  // attributes that the target's file system would not take
};

// A file, open in the way that its type allows: a regular file and a directory for reading (without touching
// the access time where that is permitted), all else O_PATH.
struct Source {
  Fd fd;
  bool path_only = false;
  struct stat stat {};

  Inode inode() const { return {fd.get(), path_only}; }
};
// Of what an O_PATH descriptor stands for, or of a name in a directory (not followed).
Result<Source> open_source(Fd path);
Result<Source> open_source(int parent, const std::string& name);

// `to` must not be there (EEXIST). A directory is made without its content, which changes its times again:
// set_times() when it has been filled. Hard links are the caller's to keep.
Result<CopiedEntry> copy_entry(const Source& from, int to_parent, const std::string& name,
                               const CopyOptions& options);
Result<CopiedEntry> copy_entry(int from_parent, const std::string& name, int to_parent,
                               const std::string& new_name, const CopyOptions& options);

// The same of a regular file with data that another file has: metadata from one layer, data from another.
Result<CopiedEntry> copy_file(const Source& metadata, const Source& data, int to_parent,
                              const std::string& name, const CopyOptions& options);

// What every name in a staging directory begins with, for whoever cleans up after a process that was killed.
inline constexpr const char* kStagedName = "#overlayfs-staged-";

}  // namespace overlayfs
