// Any value of any overlay attribute decodes without harm, and what is not malformed encodes to the same
// bytes.
#include "../core/overlay_xattr.h"

#include <cstdint>

using namespace overlayfs;

namespace {

constexpr std::string_view kNames[] = {"opaque", "whiteout", "redirect",       "metacopy",
                                       "origin", "upper",    "nlink",          "impure",
                                       "uuid",   "protattr", "overlay.opaque", "new"};

void check(bool holds) {
  if (!holds) __builtin_trap();
}

// What decodes strictly, the kernel's own reading takes too, and as the same thing.
void check_readings(std::string_view name, std::string_view value, const OverlayXattr& decoded) {
  if (name == "redirect") {
    const auto read = read_redirect(value);
    if (std::holds_alternative<Redirect>(decoded)) check(read && read->path == value);
    if (read) check(read->path.find('\0') == std::string_view::npos && value.starts_with(read->path));
  }
  if (name == "metacopy" && std::holds_alternative<Metacopy>(decoded)) check(read_metacopy(value));
  if (name == "opaque")
    check((read_opaque(value) == Opaque::no) == std::holds_alternative<Malformed>(decoded));
  if (name != "origin" && name != "upper") return;
  const auto handle = read_overlay_handle(value);
  if (handle) check(handle->bytes.size() <= value.size());
  if (!std::holds_alternative<OverlayHandle>(decoded)) return;
  check(handle.has_value());
  const std::string index = index_name_of_handle(value);
  check(handle_of_index_name(index) == std::optional<std::string>(value));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view name = kNames[data[0] % std::size(kNames)];
  const std::string_view value(reinterpret_cast<const char*>(data) + 1, size - 1);
  const OverlayXattr decoded = decode_overlay_xattr(name, value);
  check(encode_overlay_xattr(decoded) == value);
  check_readings(name, value, decoded);
  if (const auto handle = handle_of_index_name(value)) check(index_name_of_handle(*handle) == value);
  return 0;
}
