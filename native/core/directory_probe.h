// What a directory's file system can do for an overlay, found by doing it there. Leaves nothing.
#pragma once

#include <string>
#include <vector>

#include "directory.h"

namespace overlayfs {

// One thing tried: 0, or the errno that refused it; a negative one says that it could not be tried.
struct ProbeAnswer {
  const char* what;
  int error;
};

// `writable`: may files be made in it? Without, only what reading can tell is asked.
Result<std::vector<ProbeAnswer>> probe_directory(const DirectoryRef& ref, bool writable);

// Whether this process may make a user namespace: 0 or the errno, tried in a child that ends at once.
int try_user_namespace();

}  // namespace overlayfs
