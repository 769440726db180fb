// Extended attributes, as bytes: names and values may hold anything.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "result.h"

namespace overlayfs {

using Xattr = std::pair<std::string, std::string>;

// Names of the attributes behind a readable descriptor.
Result<std::vector<std::string>> list_xattrs(int fd);

// Those (that begin with the prefix) of what any descriptor stands for, one opened with O_PATH too, a
// symbolic link's own among them. A value that is not there is none; a file system without attributes has an
// empty list and no values.
Result<std::vector<Xattr>> xattrs_of(int fd, std::string_view prefix = {});
Result<std::optional<std::string>> xattr_of(int fd, const std::string& name);

// The same of a name in an open directory, which is not opened; a symbolic link is looked at itself.
Result<std::vector<Xattr>> xattrs_beneath(int directory, const std::string& entry);

// Every attribute of what `path` names; a symbolic link is looked at itself, never followed.
Result<std::vector<Xattr>> read_xattrs(const std::string& path);

}  // namespace overlayfs
