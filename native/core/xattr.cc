#include "xattr.h"

#include <array>
#include <cstring>

#include "directory.h"
#include "sys.h"

namespace overlayfs {
namespace {

// Most are short, and are read in one call. Else asks for the size, then for the bytes; ERANGE says that the
// attribute has grown between the two.
template <class Call>
Result<std::string> read_sized(const char* name, const std::string& shown, Call call) {
  std::array<char, 512> few;
  const ssize_t fits = call(few.data(), few.size());
  if (fits >= 0) return std::string(few.data(), static_cast<size_t>(fits));
  if (errno != ERANGE) return failed(name, {}, shown);
  while (true) {
    ssize_t size = call(nullptr, 0);
    if (size < 0) return failed(name, {}, shown);
    std::string bytes(static_cast<size_t>(size), '\0');
    if (size == 0) return bytes;
    size = call(bytes.data(), bytes.size());
    if (size < 0 && errno == ERANGE) continue;
    if (size < 0) return failed(name, {}, shown);
    bytes.resize(static_cast<size_t>(size));
    return bytes;
  }
}

std::vector<std::string> split_names(const std::string& names) {
  std::vector<std::string> split;
  for (size_t at = 0; at < names.size(); at += split.back().size() + 1)
    split.emplace_back(names.c_str() + at);
  return split;
}

}  // namespace

Result<std::vector<std::string>> list_xattrs(int fd) {
  return split_names(TRY(
      read_sized("flistxattr", {}, [fd](char* to, size_t size) { return sys::flistxattr(fd, to, size); })));
}

Result<std::optional<std::string>> xattr_of(int fd, const std::string& name) {
  const std::string path = fd_name(fd);
  auto value = read_sized("getxattr", name, [&](char* to, size_t size) {
    return sys::getxattr(path.c_str(), name.c_str(), to, size);
  });
  if (value) return std::optional(*std::move(value));
  if (value.error().err == ENODATA || value.error().err == EOPNOTSUPP) return std::optional<std::string>();
  return std::move(value).error();
}

Result<std::vector<Xattr>> xattrs_beneath(int directory, const std::string& entry) {
  auto attributes = read_xattrs(fd_name(directory) + '/' + entry);
  if (!attributes && attributes.error().err == EOPNOTSUPP) return std::vector<Xattr>();
  return attributes;
}

Result<std::vector<Xattr>> xattrs_of(int fd, std::string_view prefix) {
  const std::string path = fd_name(fd);
  auto names = read_sized("listxattr", {},
                          [&](char* to, size_t size) { return sys::listxattr(path.c_str(), to, size); });
  std::vector<Xattr> attributes;
  if (!names && names.error().err == EOPNOTSUPP) return attributes;
  if (!names) return std::move(names).error();
  for (std::string& name : split_names(*names)) {
    if (!name.starts_with(prefix)) continue;
    auto value = TRY(xattr_of(fd, name));
    if (value) attributes.emplace_back(std::move(name), *std::move(value));
  }
  return attributes;
}

Result<std::vector<Xattr>> read_xattrs(const std::string& path) {
  const std::string names = TRY(read_sized(
      "llistxattr", path, [&](char* to, size_t size) { return sys::llistxattr(path.c_str(), to, size); }));
  std::vector<Xattr> attributes;
  for (std::string& name : split_names(names)) {
    auto value = read_sized("lgetxattr", path, [&](char* to, size_t size) {
      return sys::lgetxattr(path.c_str(), name.c_str(), to, size);
    });
    if (!value && value.error().err == ENODATA) continue;  // removed since it was listed
    attributes.emplace_back(std::move(name), TRY(std::move(value)));
  }
  return attributes;
}

}  // namespace overlayfs
