// A path that is escaped and then read as the kernel reads it is the same path, in one piece.
#include "../core/overlay_strings.h"

#include <cstdint>

namespace {

void check(std::string_view path, const std::string& escaped, std::string_view separators) {
  std::string read;
  for (size_t at = 0; at < escaped.size(); ++at) {
    if (separators.find(escaped[at]) != std::string_view::npos) __builtin_trap();
    if (escaped[at] == '\\' && ++at == escaped.size()) __builtin_trap();
    read += escaped[at];
  }
  if (read != path) __builtin_trap();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view path(reinterpret_cast<const char*>(data), size);
  check(path, overlayfs::escape_lowerdir(path), ":,");
  check(path, overlayfs::escape_upperdir(path, true), ",");
  check(path, overlayfs::escape_upperdir(path, false), "");
  return 0;
}
