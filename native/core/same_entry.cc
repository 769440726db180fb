#include "same_entry.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <memory>

#include "directory.h"
#include "entry_compare.h"
#include "status.h"
#include "sys.h"
#include "xattr.h"

namespace overlayfs {
namespace {

constexpr size_t kCompareBuffer = size_t{256} << 10;

Result<std::vector<Xattr>> visible_xattrs(int fd, const std::string& private_prefix) {
  std::vector<Xattr> xattrs = TRY(xattrs_of(fd));
  std::erase_if(xattrs, [&](const Xattr& one) { return one.first.starts_with(private_prefix); });
  std::sort(xattrs.begin(), xattrs.end());
  return xattrs;
}

Result<Fd> reopen_file(int fd) {
  const std::string name = fd_name(fd);
  Fd opened(sys::openat(AT_FDCWD, name.c_str(), O_RDONLY | O_NOATIME));
  if (!opened && errno == EPERM) opened.reset(sys::openat(AT_FDCWD, name.c_str(), O_RDONLY));
  if (!opened) return failed("openat", "O_RDONLY");
  return opened;
}

Result<size_t> read_full(int fd, char* buffer, off_t at) {
  size_t have = 0;
  while (have < kCompareBuffer) {
    const ssize_t count = sys::pread(fd, buffer + have, kCompareBuffer - have, at + static_cast<off_t>(have));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return failed("pread");
    if (count == 0) break;
    have += static_cast<size_t>(count);
  }
  return have;
}

Result<bool> same_bytes(int one, int other, const Cancel& cancel) {
  const Fd left = TRY(reopen_file(one)), right = TRY(reopen_file(other));
  const auto buffer = std::make_unique_for_overwrite<char[]>(2 * kCompareBuffer);
  char* const second = buffer.get() + kCompareBuffer;
  for (off_t at = 0;; at += kCompareBuffer) {
    if (cancelled(cancel)) return SysError{ECANCELED, "pread", "aborted", {}, {}};
    const size_t size = TRY(read_full(left.get(), buffer.get(), at));
    if (size != TRY(read_full(right.get(), second, at)) || !std::equal(second, second + size, buffer.get()))
      return false;
    if (size < kCompareBuffer) return true;
  }
}

Result<std::string> target_of(int link) {
  std::array<char, PATH_MAX> target;
  const ssize_t size = sys::readlinkat(link, "", target.data(), target.size());
  if (size < 0) return failed("readlinkat");
  return std::string(target.data(), static_cast<size_t>(size));
}

Result<bool> same_content(const abi::Statx& a, const abi::Statx& b, int one, int other, const Cancel& cancel,
                          Reading reading) {
  switch (a.mode & S_IFMT) {
    case S_IFREG:
      if (a.size != b.size) return false;
      if (a.size == 0) return true;
      if (reading == Reading::in_doubt && a.mtime == b.mtime && !is_ambiguous(a)) return true;
      return same_bytes(one, other, cancel);
    case S_IFLNK:
      return TRY(target_of(one)) == TRY(target_of(other));
    case S_IFBLK:
    case S_IFCHR:
      return represented_device(a) == represented_device(b);
    default:
      return true;
  }
}

}  // namespace

Result<Fd> open_entry(int directory, const std::string& name) {
  Fd opened(sys::openat(directory, name.c_str(), O_PATH | O_NOFOLLOW));
  if (!opened) return failed("openat", "O_PATH | O_NOFOLLOW", name);
  return opened;
}

Result<Difference> difference_between(int one, int other, int data, const std::string& private_prefix,
                                      const Cancel& cancel, Reading reading) {
  const auto left = TRY(status_of(one, {})), right = TRY(status_of(other, {}));
  const abi::Statx &a = *left, &b = *right;
  if (a.ino == b.ino && device_of(a) == device_of(b)) return Difference::none;
  if (((a.mode ^ b.mode) & S_IFMT) != 0) return Difference::type;
  if (!TRY(same_content(a, b, one, S_ISREG(b.mode) ? data : other, cancel, reading)))
    return Difference::content;
  const bool link = S_ISLNK(a.mode);  // whose mode says nothing
  if ((!link && a.mode != b.mode) || a.uid != b.uid || a.gid != b.gid) return Difference::metadata;
  if (TRY(visible_xattrs(one, private_prefix)) != TRY(visible_xattrs(other, private_prefix)))
    return Difference::metadata;
  return Difference::none;
}

}  // namespace overlayfs
