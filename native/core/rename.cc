#include "rename.h"

#include <fcntl.h>

#include "sys.h"

namespace overlayfs {
namespace {

int rename_with(const DirectoryEntry& from, const DirectoryEntry& to, unsigned flags) {
  return sys::renameat2(from.directory, from.name.c_str(), to.directory, to.name.c_str(), flags);
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
  if (rename_with(one, other, abi::rename_flag::EXCHANGE) == 0) return true;
  if (errno == EINVAL || errno == ENOSYS) return false;
  return failed("renameat2", "RENAME_EXCHANGE", other.name);
}

}  // namespace overlayfs
