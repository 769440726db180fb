#include "copy_metadata.h"

#include <fcntl.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>

#include "directory.h"
#include "sys.h"

namespace overlayfs {
namespace {

// linux/fs.h, which excludes <sys/mount.h>.
constexpr unsigned long GETFLAGS = 0x80086601, SETFLAGS = 0x40086602;
constexpr int FS_SYNC = 0x8, FS_IMMUTABLE = 0x10, FS_APPEND = 0x20, FS_NOATIME = 0x80;
constexpr int kCopied = FS_SYNC | FS_NOATIME, kProtecting = FS_APPEND | FS_IMMUTABLE;

constexpr const char *kAccessAcl = "system.posix_acl_access", *kDefaultAcl = "system.posix_acl_default";

bool is_acl(const std::string& name) { return name == kAccessAcl || name == kDefaultAcl; }

// What a copy may not do without: ovl_must_copy_xattr() of fs/overlayfs/copy_up.c.
bool must_copy(const std::string& name) { return is_acl(name) || name.starts_with("security."); }

constexpr const char* kEscaped = "overlay.";

bool belongs_to_overlay(const std::string& name, const std::string& prefix) {
  return !prefix.empty() && name.starts_with(prefix);
}
bool is_escaped(const std::string& name, const std::string& prefix) {
  return name.compare(prefix.size(), std::strlen(kEscaped), kEscaped) == 0;
}

// The attribute calls on either kind of descriptor.
struct Attributes {
  Inode inode;
  std::string path;  // only an O_PATH descriptor needs its name

  explicit Attributes(Inode of) : inode(of), path(of.path_only ? fd_name(of.fd) : std::string()) {}

  ssize_t list(char* names, size_t size) const {
    return inode.path_only ? sys::listxattr(path.c_str(), names, size)
                           : sys::flistxattr(inode.fd, names, size);
  }
  ssize_t get(const char* name, char* value, size_t size) const {
    return inode.path_only ? sys::getxattr(path.c_str(), name, value, size)
                           : sys::fgetxattr(inode.fd, name, value, size);
  }
  int set(const std::string& name, const std::string& value) const {
    return inode.path_only ? sys::setxattr(path.c_str(), name.c_str(), value.data(), value.size())
                           : sys::fsetxattr(inode.fd, name.c_str(), value.data(), value.size());
  }
  int remove(const char* name) const {
    return inode.path_only ? sys::removexattr(path.c_str(), name) : sys::fremovexattr(inode.fd, name);
  }
};

// Most lists and values fit the first try; one that does not is asked for its size, as often as it grows.
template <class Call>
ssize_t read_whole(std::string* bytes, Call call) {
  std::array<char, 1024> first;
  ssize_t size = call(first.data(), first.size());
  if (size >= 0) bytes->assign(first.data(), static_cast<size_t>(size));
  while (size < 0 && errno == ERANGE) {
    size = call(nullptr, 0);
    if (size < 0) return size;
    bytes->resize(static_cast<size_t>(size));
    size = call(bytes->data(), bytes->size());
    if (size >= 0) bytes->resize(static_cast<size_t>(size));
  }
  return size;
}

Result<std::vector<std::string>> list_names(const Attributes& of) {
  std::string list;
  const ssize_t size = read_whole(&list, [&](char* to, size_t room) { return of.list(to, room); });
  if (size < 0 && errno != EOPNOTSUPP) return failed("listxattr");
  std::vector<std::string> names;
  for (size_t at = 0; at < list.size(); at += names.back().size() + 1) names.emplace_back(list.c_str() + at);
  return names;
}

class XattrCopier {
 public:
  XattrCopier(Inode from, Inode to, const MetadataOptions& options)
      : from_(from), to_(to), options_(options) {}

  Result<std::vector<std::string>> copy() {
    const std::vector<std::string> names = TRY(list_names(from_));
    TRY(drop_inherited_acls(names));
    for (const std::string& name : names) {
      const std::string& prefix = options_.private_prefix;
      if (belongs_to_overlay(name, prefix)) {
        if (!is_escaped(name, prefix)) continue;
        if (options_.plain) {
          dropped_.push_back(prefix + name.substr(prefix.size() + std::strlen(kEscaped)));
          continue;
        }
      }
      std::string value;
      const ssize_t size =
          read_whole(&value, [&](char* to, size_t room) { return from_.get(name.c_str(), to, room); });
      if (size < 0 && errno == ENODATA) continue;  // removed since it was listed
      if (size < 0) return failed("getxattr", name);
      TRY(put(name, value, must_copy(name)));
    }
    for (const auto& [name, value] : options_.extra) TRY(put_extra(name, value));
    return std::move(dropped_);
  }

 private:
  // A directory's default ACL is given to whatever is made in it; the copy has the source's and no other.
  Result<void> drop_inherited_acls(const std::vector<std::string>& wanted) {
    for (const std::string& name : TRY(list_names(to_))) {
      if (!is_acl(name) || std::find(wanted.begin(), wanted.end(), name) != wanted.end()) continue;
      if (to_.remove(name.c_str()) != 0 && errno != ENODATA) return failed("removexattr", name);
    }
    return {};
  }

  Result<void> put(const std::string& name, const std::string& value, bool must) {
    if (to_.set(name, value) == 0) return {};
    if (must || errno != EOPNOTSUPP) return failed("setxattr", name);
    dropped_.push_back(name);
    return {};
  }

  Result<void> put_extra(const std::string& name, const std::string& value) {
    auto done = put(name, value, false);
    // user.* is not for symbolic links and special files (xattr(7)): nothing is missing there.
    if (!done && done.error().err == EPERM && name.starts_with("user.")) return {};
    return done;
  }

  Attributes from_, to_;
  const MetadataOptions& options_;
  std::vector<std::string> dropped_;
};

std::optional<int> inode_flags(int fd) {
  int flags = 0;
  if (sys::ioctl(fd, GETFLAGS, &flags) != 0) return std::nullopt;  // a file system without flags
  return flags;
}

Result<void> copy_flags(Inode from, Inode to, const MetadataOptions& options) {
  const int source = inode_flags(from.fd).value_or(0);
  if (options.protattr && (source & kProtecting) != 0) {
    std::string letters;
    if ((source & FS_APPEND) != 0) letters += 'a';
    if ((source & FS_IMMUTABLE) != 0) letters += 'i';
    auto set = set_xattr(to, options.private_prefix + "protattr", letters);
    if (!set && set.error().err != EOPNOTSUPP) return set;
  }
  if ((source & kCopied) == 0) return {};
  const std::optional<int> present = inode_flags(to.fd);
  if (!present) return {};
  int wanted = (*present & ~kCopied) | (source & kCopied);
  if (sys::ioctl(to.fd, SETFLAGS, &wanted) != 0) return failed("ioctl", "FS_IOC_SETFLAGS");
  return {};
}

Result<void> set_owner_and_mode(Inode to, const struct stat& source) {
  if (sys::fchownat(to.fd, "", source.st_uid, source.st_gid, AT_EMPTY_PATH) != 0) return failed("fchownat");
  if (S_ISLNK(source.st_mode)) return {};
  const mode_t mode = source.st_mode & 07777;
  if ((to.path_only ? sys::chmod(fd_name(to.fd).c_str(), mode) : sys::fchmod(to.fd, mode)) != 0)
    return failed("fchmod");
  return {};
}

}  // namespace

Result<void> set_times(Inode to, const struct stat& source) {
  const timespec times[] = {source.st_atim, source.st_mtim};
  // Without a name it is the descriptor itself, but not one opened with O_PATH.
  const int done = to.path_only ? sys::utimensat(to.fd, "", times, AT_EMPTY_PATH)
                                : sys::utimensat(to.fd, nullptr, times, 0);
  if (done != 0) return failed("utimensat");
  return {};
}

Result<void> set_xattr(Inode to, const std::string& name, const std::string& value) {
  if (Attributes(to).set(name, value) != 0) return failed("setxattr", name);
  return {};
}

Result<std::vector<std::string>> copy_metadata(Inode from, Inode to, const struct stat& source,
                                               const MetadataOptions& options) {
  TRY(set_owner_and_mode(to, source));
  auto dropped = TRY(XattrCopier(from, to, options).copy());
  if (!from.path_only && !to.path_only) TRY(copy_flags(from, to, options));
  TRY(set_times(to, source));
  return dropped;
}

}  // namespace overlayfs
