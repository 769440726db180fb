#include "status.h"

#include <fcntl.h>
#include <sys/sysmacros.h>

#include "sys.h"

namespace overlayfs {
namespace {

abi::StatxTime time_of(const timespec& time) { return {time.tv_sec, static_cast<uint32_t>(time.tv_nsec), 0}; }

abi::Statx statx_of(const struct stat& st) {
  abi::Statx status{};
  status.mask = abi::statx_mask::BASIC_STATS;
  status.blksize = static_cast<uint32_t>(st.st_blksize);
  status.nlink = static_cast<uint32_t>(st.st_nlink);
  status.uid = st.st_uid;
  status.gid = st.st_gid;
  status.mode = static_cast<uint16_t>(st.st_mode);
  status.ino = st.st_ino;
  status.size = static_cast<uint64_t>(st.st_size);
  status.blocks = static_cast<uint64_t>(st.st_blocks);
  status.atime = time_of(st.st_atim);
  status.ctime = time_of(st.st_ctim);
  status.mtime = time_of(st.st_mtim);
  status.rdev_major = gnu_dev_major(st.st_rdev);
  status.rdev_minor = gnu_dev_minor(st.st_rdev);
  status.dev_major = gnu_dev_major(st.st_dev);
  status.dev_minor = gnu_dev_minor(st.st_dev);
  return status;
}

}  // namespace

Result<std::optional<abi::Statx>> status_of(int directory, const std::string& name) {
  constexpr unsigned wanted = abi::statx_mask::BASIC_STATS | abi::statx_mask::BTIME;
  const int flags = AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | (name.empty() ? AT_EMPTY_PATH : 0);
  abi::Statx status{};
  int done = sys::statx(directory, name.c_str(), flags, wanted, &status);
  // EPERM from a call that needs no privilege is a seccomp filter that does not know it.
  if (done != 0 && (errno == ENOSYS || errno == EPERM)) {
    struct stat st {};
    done = sys::fstatat(directory, name.c_str(), &st, flags);
    if (done == 0) status = statx_of(st);
  }
  if (done != 0) {
    if (errno == ENOENT || errno == ENAMETOOLONG) return std::optional<abi::Statx>();
    return failed("statx", {}, name);
  }
  if (!name.empty() && (status.attributes & abi::kStatxMountRoot) != 0)
    return SysError{EXDEV, "statx", "a mount", name, {}};
  return std::optional(status);
}

uint64_t device_of(const abi::Statx& status) { return gnu_dev_makedev(status.dev_major, status.dev_minor); }

uint64_t represented_device(const abi::Statx& status) {
  return gnu_dev_makedev(status.rdev_major, status.rdev_minor);
}

}  // namespace overlayfs
