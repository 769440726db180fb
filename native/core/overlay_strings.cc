#include "overlay_strings.h"

namespace overlayfs {
namespace {

std::string escape(std::string_view path, std::string_view special) {
  std::string escaped;
  escaped.reserve(path.size());
  for (const char byte : path) {
    if (special.find(byte) != std::string_view::npos) escaped += '\\';
    escaped += byte;
  }
  return escaped;
}

}  // namespace

std::string escape_lowerdir(std::string_view path) { return escape(path, "\\:,"); }
std::string escape_upperdir(std::string_view path, bool for_mount_2) {
  return escape(path, for_mount_2 ? "\\," : "\\");
}

}  // namespace overlayfs
