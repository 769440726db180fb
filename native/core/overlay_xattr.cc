#include "overlay_xattr.h"

#include <algorithm>
#include <bit>
#include <charconv>
#include <cstring>

namespace overlayfs {
namespace {

constexpr uint8_t OVL_FH_VERSION = 0, OVL_FH_MAGIC = 0xfb, OVL_FH_FLAG_BIG_ENDIAN = 1,
                  OVL_FH_FLAG_ANY_ENDIAN = 2, OVL_FH_FLAG_PATH_UPPER = 4, OVL_FH_FLAG_ALL = 7;
constexpr size_t OVL_FB_SIZE = 21;  // sizeof(struct ovl_fb): version, magic, len, flags, type, uuid
constexpr size_t OVL_METACOPY_MIN_SIZE = 4, FS_VERITY_MAX_DIGEST_SIZE = 64;
constexpr size_t OVL_PROTATTR_MAX = 32;

uint8_t byte_at(std::string_view bytes, size_t at) { return static_cast<uint8_t>(bytes[at]); }

bool is_dots(std::string_view name) { return name == "." || name == ".."; }

bool holds_dots(std::string_view path) {
  for (size_t at = 0; at <= path.size();) {
    const size_t end = std::min(path.find('/', at), path.size());
    if (is_dots(path.substr(at, end - at))) return true;
    at = end + 1;
  }
  return false;
}

OverlayXattr decode_opaque(std::string_view value) {
  if (read_opaque(value) == Opaque::no)
    return Malformed{"is neither `y` nor `x`: the kernel ignores it", value};
  return OpaqueMark{value[0]};
}

OverlayXattr decode_redirect(std::string_view value) {
  const auto redirect = read_redirect(value);
  if (!redirect) return Malformed{"is no redirect: the kernel answers EINVAL", value};
  if (redirect->path.size() != value.size())
    return Malformed{"holds a NUL, where the kernel stops reading", value};
  if (holds_dots(value)) return Malformed{"holds `.` or `..`: the kernel answers EACCES", value};
  return *redirect;
}

OverlayXattr decode_metacopy(std::string_view value) {
  if (value.empty()) return Metacopy{};
  if (value.size() < OVL_METACOPY_MIN_SIZE) return Malformed{"is too short: the kernel answers EIO", value};
  if (value.size() > OVL_METACOPY_MIN_SIZE + FS_VERITY_MAX_DIGEST_SIZE)
    return Malformed{"is longer than any digest", value};
  if (value[0] != 0) return Malformed{"has a version that is not known", value};
  if (byte_at(value, 1) != value.size()) return Malformed{"says another length than it has", value};
  return Metacopy{true, byte_at(value, 2), byte_at(value, 3), value.substr(OVL_METACOPY_MIN_SIZE)};
}

OverlayXattr decode_handle(std::string_view value) {
  if (value.empty()) return UnknownOrigin{};
  if (value.size() < OVL_FB_SIZE) return Malformed{"is too short for a file handle", value};
  if (byte_at(value, 1) != OVL_FH_MAGIC) return Malformed{"does not begin as a file handle does", value};
  if (byte_at(value, 2) != value.size()) return Malformed{"says another length than it has", value};
  const auto handle = read_overlay_handle(value);
  if (!handle) return Malformed{"has a version, flags or a byte order that are not known here", value};
  return *handle;
}

OverlayXattr decode_links(std::string_view value) {
  constexpr auto wrong = "is not U or L, a sign and a number";
  if (value.size() < 3 || (value[0] != 'U' && value[0] != 'L') || (value[1] != '+' && value[1] != '-'))
    return Malformed{wrong, value};
  Links links{value[0]};
  const std::string_view number = value.substr(value[1] == '+' ? 2 : 1);
  const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), links.difference);
  if (error != std::errc() || end != number.data() + number.size()) return Malformed{wrong, value};
  if (encode_overlay_xattr(links) != value)
    return Malformed{"is not how the kernel writes the number", value};
  return links;
}

OverlayXattr decode_uuid(std::string_view value) {
  OverlayUuid uuid;
  if (value.size() != uuid.uuid.size()) return Malformed{"is not 16 bytes", value};
  std::memcpy(uuid.uuid.data(), value.data(), value.size());
  return uuid;
}

OverlayXattr decode_protattr(std::string_view value) {
  if (value.size() > OVL_PROTATTR_MAX) return Malformed{"is longer than the kernel reads", value};
  const ProtectedFlags flags{value.starts_with('a'), value.ends_with('i')};
  if (value.empty() || encode_overlay_xattr(flags) != value)
    return Malformed{"is none of `a`, `i` and `ai`", value};
  return flags;
}

struct Encode {
  std::string operator()(const OpaqueMark& mark) const { return {mark.value}; }
  std::string operator()(const WhiteoutMark& mark) const { return std::string(mark.value); }
  std::string operator()(const Redirect& redirect) const { return std::string(redirect.path); }
  std::string operator()(const Metacopy& metacopy) const {
    if (!metacopy.header) return {};
    std::string bytes = {0, static_cast<char>(OVL_METACOPY_MIN_SIZE + metacopy.digest.size()),
                         static_cast<char>(metacopy.flags), static_cast<char>(metacopy.algorithm)};
    return bytes.append(metacopy.digest);
  }
  std::string operator()(const OverlayHandle& handle) const {
    std::string bytes = {OVL_FH_VERSION, static_cast<char>(OVL_FH_MAGIC),
                         static_cast<char>(OVL_FB_SIZE + handle.bytes.size()),
                         static_cast<char>(handle.flags), static_cast<char>(handle.type)};
    bytes.append(reinterpret_cast<const char*>(handle.uuid.data()), handle.uuid.size());
    return bytes.append(handle.bytes);
  }
  std::string operator()(const UnknownOrigin&) const { return {}; }
  std::string operator()(const Links& links) const {
    std::string bytes = {links.of};
    if (links.difference >= 0) bytes += '+';
    return bytes += std::to_string(links.difference);
  }
  std::string operator()(const Impure&) const { return "y"; }
  std::string operator()(const OverlayUuid& uuid) const {
    return {reinterpret_cast<const char*>(uuid.uuid.data()), uuid.uuid.size()};
  }
  std::string operator()(const ProtectedFlags& flags) const {
    return std::string(flags.append ? "a" : "") + (flags.immutable ? "i" : "");
  }
  std::string operator()(const Escaped& escaped) const { return std::string(escaped.value); }
  std::string operator()(const UnknownXattr& unknown) const { return std::string(unknown.value); }
  std::string operator()(const Malformed& malformed) const { return std::string(malformed.value); }
};

}  // namespace

Opaque read_opaque(std::string_view value) {
  return value == "y" ? Opaque::yes : value == "x" ? Opaque::whiteouts : Opaque::no;
}

std::optional<Redirect> read_redirect(std::string_view value) {
  if (value.empty()) return std::nullopt;
  const std::string_view path = value.substr(0, value.find('\0'));
  if (path.starts_with('/')) {
    if (path.ends_with('/') || path.find("//") != std::string_view::npos) return std::nullopt;
  } else if (path.find('/') != std::string_view::npos) {
    return std::nullopt;
  }
  return Redirect{path};
}

bool read_metacopy(std::string_view value) { return value.empty() || value.size() >= OVL_METACOPY_MIN_SIZE; }

bool OverlayHandle::is_upper() const { return (flags & OVL_FH_FLAG_PATH_UPPER) != 0; }

std::optional<OverlayHandle> read_overlay_handle(std::string_view value) {
  if (value.size() < OVL_FB_SIZE || byte_at(value, 1) != OVL_FH_MAGIC) return std::nullopt;
  const size_t length = byte_at(value, 2);
  if (length < OVL_FB_SIZE || length > value.size()) return std::nullopt;
  OverlayHandle handle{
      byte_at(value, 3), byte_at(value, 4), {}, value.substr(OVL_FB_SIZE, length - OVL_FB_SIZE)};
  if (byte_at(value, 0) > OVL_FH_VERSION || (handle.flags & ~OVL_FH_FLAG_ALL) != 0) return std::nullopt;
  constexpr unsigned native = std::endian::native == std::endian::big ? OVL_FH_FLAG_BIG_ENDIAN : 0;
  if ((handle.flags & OVL_FH_FLAG_ANY_ENDIAN) == 0 && (handle.flags & OVL_FH_FLAG_BIG_ENDIAN) != native)
    return std::nullopt;
  std::memcpy(handle.uuid.data(), value.data() + 5, handle.uuid.size());
  return handle;
}

OverlayXattr decode_overlay_xattr(std::string_view name, std::string_view value) {
  if (name == "opaque") return decode_opaque(value);
  if (name == "whiteout") return WhiteoutMark{value};
  if (name == "redirect") return decode_redirect(value);
  if (name == "metacopy") return decode_metacopy(value);
  if (name == "origin" || name == "upper") return decode_handle(value);
  if (name == "nlink") return decode_links(value);
  if (name == "uuid") return decode_uuid(value);
  if (name == "protattr") return decode_protattr(value);
  if (name.starts_with(kEscape)) return Escaped{name, value};
  if (name != "impure") return UnknownXattr{value};
  if (value != "y") return Malformed{"is not `y`: the kernel ignores it", value};
  return Impure{};
}

std::string encode_overlay_xattr(const OverlayXattr& xattr) { return std::visit(Encode{}, xattr); }

std::string encode_overlay_handle(const FileHandle& handle, const Uuid& uuid, bool is_upper) {
  constexpr uint8_t kEndian = std::endian::native == std::endian::big ? OVL_FH_FLAG_BIG_ENDIAN : 0;
  const auto flags = static_cast<uint8_t>(kEndian | (is_upper ? OVL_FH_FLAG_PATH_UPPER : 0));
  return encode_overlay_xattr(OverlayHandle{flags, static_cast<uint8_t>(handle.type), uuid, handle.bytes});
}

std::optional<std::string> handle_of_index_name(std::string_view name) {
  if (name.size() % 2 != 0 || name.size() < 2 * OVL_FB_SIZE) return std::nullopt;
  std::string handle(name.size() / 2, '\0');
  for (size_t i = 0; i < name.size(); ++i) {
    const char digit = name[i];
    const bool letter = digit >= 'a' && digit <= 'f';
    if (!letter && (digit < '0' || digit > '9')) return std::nullopt;
    const int nibble = letter ? digit - 'a' + 10 : digit - '0';
    handle[i / 2] = static_cast<char>(static_cast<unsigned char>(handle[i / 2]) << 4 | nibble);
  }
  if (!std::holds_alternative<OverlayHandle>(decode_handle(handle))) return std::nullopt;
  return handle;
}

std::string index_name_of_handle(std::string_view handle) {
  constexpr std::string_view digits = "0123456789abcdef";
  std::string name;
  name.reserve(2 * handle.size());
  for (const char byte : handle) {
    name += digits[static_cast<unsigned char>(byte) >> 4];
    name += digits[byte & 0xf];
  }
  return name;
}

}  // namespace overlayfs
