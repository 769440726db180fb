// Removing what is ours and lies in a directory of ours, however deep it is, and never what is mounted there.
#pragma once

#include <string>

#include "result.h"

namespace overlayfs {

// Removes `name` in the directory, with everything in it. A symbolic link is removed itself. What is mounted
// below is EXDEV or EBUSY, and stays with all that leads to it.
Result<void> remove_tree(int parent, const std::string& name);

}  // namespace overlayfs
