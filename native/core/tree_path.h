// Paths within a tree: names with slashes between them, none in front.
#pragma once

#include <string>
#include <string_view>
#include <utility>

namespace overlayfs {

inline constexpr size_t kDeepestTree = 2048;  // deeper than any path leads: PATH_MAX

// The part before the last slash, and the name behind it.
inline std::pair<std::string_view, std::string_view> split_path(std::string_view path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string_view::npos) return {{}, path};
  return {path.substr(0, slash), path.substr(slash + 1)};
}

inline std::string parent_of(std::string_view path) { return std::string(split_path(path).first); }
inline std::string name_of(std::string_view path) { return std::string(split_path(path).second); }

}  // namespace overlayfs
