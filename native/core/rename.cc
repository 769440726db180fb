#include "rename.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <optional>

#include "sys.h"

namespace overlayfs {
namespace {

int rename_with(const DirectoryEntry& from, const DirectoryEntry& to, unsigned flags) {
  return sys::renameat2(from.directory, from.name.c_str(), to.directory, to.name.c_str(), flags);
}

std::optional<struct timespec> directory_time(const DirectoryEntry& entry) {
  struct stat status {};
  const int looked = sys::fstatat(entry.directory, entry.name.c_str(), &status, AT_SYMLINK_NOFOLLOW);
  return looked == 0 && S_ISDIR(status.st_mode) ? std::optional(status.st_mtim) : std::nullopt;
}

void restore_time(const DirectoryEntry& entry, const std::optional<struct timespec>& time) {
  const auto now = time ? directory_time(entry) : std::nullopt;
  if (!now || (now->tv_sec == time->tv_sec && now->tv_nsec == time->tv_nsec)) return;
  const timespec times[] = {{0, UTIME_OMIT}, *time};
  sys::utimensat(entry.directory, entry.name.c_str(), times, AT_SYMLINK_NOFOLLOW);
}

}  // namespace

Result<void> rename_noreplace(const DirectoryEntry& from, const DirectoryEntry& to) {
  int done = rename_with(from, to, abi::rename_flag::NOREPLACE);
  if (done != 0 && (errno == EINVAL || errno == ENOSYS)) {
    struct stat there {};
    if (sys::fstatat(to.directory, to.name.c_str(), &there, AT_SYMLINK_NOFOLLOW) == 0)
      return SysError{EEXIST, "renameat2", from.name, to.name, {}};
    done = rename_with(from, to, 0);
  }
  if (done != 0) return failed("renameat2", "RENAME_NOREPLACE", to.name);
  return {};
}

Result<bool> rename_exchange(const DirectoryEntry& one, const DirectoryEntry& other) {
  const auto time = directory_time(one), other_time = directory_time(other);
  if (rename_with(one, other, abi::rename_flag::EXCHANGE) == 0) {
    restore_time(one, other_time);
    restore_time(other, time);
    return true;
  }
  if (errno == EINVAL || errno == ENOSYS) return false;
  return failed("renameat2", "RENAME_EXCHANGE", other.name);
}

}  // namespace overlayfs
