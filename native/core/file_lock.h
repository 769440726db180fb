// Whether somebody holds a lock on a file: what programs keep on their databases for as long as they live.
#pragma once

#include <string>

#include "result.h"

namespace overlayfs {

enum class FileLock {
  none,   // or there is no such file
  flock,  // an exclusive one, flock(2)
  fcntl   // a record lock, fcntl(2), of a process or of an open file description
};

// The file is opened and looked at, and nothing more.
Result<FileLock> file_lock(const std::string& path);

}  // namespace overlayfs
