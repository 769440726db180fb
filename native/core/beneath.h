// The way in to what lies in a layer: by names alone, below an open directory. No symbolic link, no `..` and
// no mount in the layer leads out of it.
#pragma once

#include <sys/types.h>

#include <string>

#include "fd.h"
#include "result.h"

namespace overlayfs {

// openat2(2) with RESOLVE_BENEATH, NO_SYMLINKS and NO_XDEV; name by name where the kernel has no openat2(2),
// or where the path is longer than one call takes. An empty path is the root itself. A symbolic link on the
// way is ELOOP; at the end too, but for O_PATH, which then stands for the link. What leads out is EXDEV.
// O_NONBLOCK is the caller's to give: opening a FIFO waits otherwise.
Result<Fd> open_beneath(int root, const std::string& path, int flags, mode_t mode = 0);

// The same for a path of an overlay as its users see it: symbolic links on the way are followed, as if the
// root were the root of everything (RESOLVE_IN_ROOT), `..` stops there, and a leading slash says nothing.
// What lies on another mount is EXDEV here too. Without openat2(2) a symbolic link on the way is ELOOP, and
// `..` EXDEV.
Result<Fd> open_in_root(int root, const std::string& path, int flags);

// A name in an open directory: what the calls that make, move and remove take.
struct Place {
  Fd parent;
  std::string name;
};

// The place that a path below the root names, whether anything is there or not. The root itself has none:
// EINVAL.
Result<Place> place_beneath(int root, const std::string& path);

// The place that a path of an overlay names. Its last name may be `.` or `..`, and keeps its trailing
// slashes: the calls answer for them. A path without any name is `.`.
Result<Place> place_in_root(int root, const std::string& path);

}  // namespace overlayfs
