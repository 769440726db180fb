#include "xattr_at.h"

#include <fcntl.h>

#include <array>

#include "directory.h"
#include "sys.h"

namespace overlayfs {
namespace {

constexpr size_t kUsual = 1024, kMost = 65536;  // XATTR_LIST_MAX, XATTR_SIZE_MAX

// Calls again where the answer does not fit, which ERANGE says. Nothing is allocated for short ones.
template <class Call>
ssize_t sized(std::string& bytes, Call call) {
  std::array<char, kUsual> usual;
  ssize_t size = call(usual.data(), usual.size());
  if (size >= 0) {
    bytes.assign(usual.data(), static_cast<size_t>(size));
    return size;
  }
  bytes.clear();
  if (errno != ERANGE) return size;
  bytes.resize(kMost);
  size = call(bytes.data(), bytes.size());
  bytes.resize(size > 0 ? static_cast<size_t>(size) : 0);
  return size;
}

// EPERM from a call that knows no such answer is a seccomp filter that does not know the call.
bool is_missing() { return errno == ENOSYS || errno == EPERM; }

}  // namespace

Result<void> list_xattr_names(int directory, const std::string& name, std::string& names) {
  ssize_t size = sized(names, [&](char* to, size_t room) {
    return sys::listxattrat(directory, name.c_str(), AT_SYMLINK_NOFOLLOW, to, room);
  });
  if (size < 0 && is_missing()) {
    const std::string path = fd_name(directory) + '/' + name;
    size = sized(names, [&](char* to, size_t room) { return sys::llistxattr(path.c_str(), to, room); });
  }
  if (size < 0 && errno != EOPNOTSUPP) return failed("listxattrat", {}, name);
  return {};
}

Result<std::optional<std::string>> xattr_value_at(int directory, const std::string& name,
                                                  const std::string& xattr) {
  std::string value;
  ssize_t size = sized(value, [&](char* to, size_t room) {
    return sys::getxattrat(directory, name.c_str(), AT_SYMLINK_NOFOLLOW, xattr.c_str(), to, room);
  });
  if (size < 0 && is_missing()) {
    const std::string path = fd_name(directory) + '/' + name;
    size = sized(
        value, [&](char* to, size_t room) { return sys::lgetxattr(path.c_str(), xattr.c_str(), to, room); });
  }
  if (size >= 0) return std::optional(std::move(value));
  if (errno == ENODATA || errno == EOPNOTSUPP) return std::optional<std::string>();
  return failed("getxattrat", xattr, name);
}

}  // namespace overlayfs
