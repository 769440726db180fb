// The attributes that overlayfs keeps in layers, decoded and encoded: bytes in, views of them out; no system
// calls. Formats and tolerances are those of fs/overlayfs/{util,namei,copy_up}.c.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>

#include "file_handle.h"

namespace overlayfs {

// What stands behind `trusted.overlay.` or `user.overlay.` where an overlay shows the rest as its own.
inline constexpr std::string_view kEscape = "overlay.";

// How the kernel reads one attribute while it looks a name up: it takes more than it writes.

enum class Opaque {
  no,
  yes,        // `y`: nothing below shows through
  whiteouts,  // `x`, in lower layers: the directory merges, and holds whiteouts that are files
};
Opaque read_opaque(std::string_view value);  // of a directory

// Where the directory, or the data of a metacopy file, is to be looked for.
struct Redirect {
  std::string_view path;  // one name beside the file, or from the overlay's root with a leading slash
  bool absolute() const { return path.starts_with('/'); }
};
// None: the kernel refuses the look-up with EINVAL. It stops reading at a NUL. An empty name, `.` and `..`
// are let through here, and are EACCES when they are looked up.
std::optional<Redirect> read_redirect(std::string_view value);

// `overlay.metacopy` of a regular file: false, the kernel refuses the look-up with EIO. What else is wrong
// with the value shows only when a digest is asked for.
bool read_metacopy(std::string_view value);

// `overlay.origin`, `overlay.upper`, and names in the index: struct ovl_fb.
struct OverlayHandle {
  uint8_t flags = 0, type = 0;  // `type` is the file system's
  Uuid uuid{};
  std::string_view bytes;  // what open_by_handle_at(2) takes
  bool is_upper() const;
};
// None: empty (the origin is not known), or to be passed over, as the kernel does.
std::optional<OverlayHandle> read_overlay_handle(std::string_view value);

// Every attribute in full, decoded strictly: what decodes to anything but Malformed is encoded back to the
// same bytes.
struct OpaqueMark {
  char value;  // `y` or `x`
};
struct WhiteoutMark {
  std::string_view value;  // says nothing
};
struct Metacopy {
  bool header = false;               // without one the value is empty, and there is no digest
  uint8_t flags = 0, algorithm = 0;  // FS_VERITY_HASH_ALG_*
  std::string_view digest;
};
struct UnknownOrigin {};  // an empty handle: copied up, from where is not known
struct Links {
  char of = 'U';  // relative to the number of links of the upper (`U`) or lower (`L`) inode
  int32_t difference = 0;
};
struct Impure {};  // the directory holds entries with an origin
struct OverlayUuid {
  Uuid uuid{};
};
struct ProtectedFlags {  // inode flags that the overlay shows, and its upper has not
  bool append = false, immutable = false;
};
struct Escaped {          // `overlay.overlay.…`: what the overlay shows as `overlay.…`
  std::string_view name;  // as the overlay shows it, behind `trusted.` or `user.`
  std::string_view value;
};
struct UnknownXattr {
  std::string_view value;
};
struct Malformed {
  const char* why;
  std::string_view value;
};
using OverlayXattr =
    std::variant<OpaqueMark, WhiteoutMark, Redirect, Metacopy, OverlayHandle, UnknownOrigin, Links, Impure,
                 OverlayUuid, ProtectedFlags, Escaped, UnknownXattr, Malformed>;

// `name` is what stands behind `trusted.overlay.` or `user.overlay.`. The result points into both.
OverlayXattr decode_overlay_xattr(std::string_view name, std::string_view value);
std::string encode_overlay_xattr(const OverlayXattr& xattr);
// `overlay.origin`, `overlay.upper`.
std::string encode_overlay_handle(const FileHandle& handle, const Uuid& uuid, bool is_upper);

// The name of an entry of work/index: the whole handle of its origin in hexadecimal.
std::optional<std::string> handle_of_index_name(std::string_view name);
std::string index_name_of_handle(std::string_view handle);

}  // namespace overlayfs
