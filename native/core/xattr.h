// Extended attributes, as bytes: names and values may hold anything.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "result.h"

namespace overlayfs {

using Xattr = std::pair<std::string, std::string>;

// Names of the attributes behind a readable descriptor.
Result<std::vector<std::string>> list_xattrs(int fd);

// Every attribute of what `path` names; a symbolic link is looked at itself, never followed.
Result<std::vector<Xattr>> read_xattrs(const std::string& path);

}  // namespace overlayfs
