// renameat2(2) where a file system may lack its flags.
#pragma once

#include <string>

#include "result.h"

namespace overlayfs {

// A name in an open directory.
struct DirectoryEntry {
  int directory = -1;
  std::string name;
};

// RENAME_NOREPLACE: EEXIST if something has the new name. Without the flag that is looked at first.
Result<void> rename_noreplace(const DirectoryEntry& from, const DirectoryEntry& to);

// RENAME_EXCHANGE. False: the file system has not got it. Directories keep their times, which xfs changes
// when their parents do.
Result<bool> rename_exchange(const DirectoryEntry& one, const DirectoryEntry& other);

}  // namespace overlayfs
