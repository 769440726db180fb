// flock(2) on directories of a store: held by whoever lives, let go by the kernel of whoever dies.
#pragma once

#include <string>

#include "fd.h"
#include "result.h"

namespace overlayfs {

enum class StoreLock { shared, exclusive };

// Locks the directory that `path` names below the root, and makes sure that it still has that name then.
// Never waits: EWOULDBLOCK. ENOENT where it has been removed or renamed.
Result<Fd> lock_directory(int root, const std::string& path, StoreLock kind);

}  // namespace overlayfs
