// Extended attributes of a name in an open directory: neither opened nor followed.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "result.h"

namespace overlayfs {

// The names, each with its NUL; a file system without attributes has none. listxattrat(2) since Linux 6.13,
// the way through /proc/self/fd before. What was there a moment ago may be gone: ENOENT.
Result<void> list_xattr_names(int directory, const std::string& name, std::string& names);
Result<std::optional<std::string>> xattr_value_at(int directory, const std::string& name,
                                                  const std::string& xattr);

// Calls `each` with every name in such a list.
template <class Each>
void each_xattr_name(std::string_view names, Each each) {
  for (size_t at = 0; at < names.size();) {
    const size_t end = names.find('\0', at);
    each(names.substr(at, end - at));
    at = end + 1;
  }
}

}  // namespace overlayfs
