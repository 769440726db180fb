#include "file_lock.h"

#include <fcntl.h>
#include <sys/file.h>

#include "fd.h"
#include "sys.h"

namespace overlayfs {

Result<FileLock> file_lock(const std::string& path) {
  const Fd file(sys::openat(AT_FDCWD, path.c_str(), O_RDONLY | O_NONBLOCK | O_NOCTTY));
  if (!file) {
    if (errno == ENOENT || errno == ENOTDIR) return FileLock::none;
    return failed("openat", "O_RDONLY", path);
  }
  // Closing the descriptor gives it back.
  if (sys::flock(file.get(), LOCK_SH | LOCK_NB) != 0) {
    if (errno == EWOULDBLOCK) return FileLock::flock;
    return failed("flock", "LOCK_SH | LOCK_NB", path);
  }
  struct flock lock {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  if (sys::get_lock(file.get(), &lock) != 0) return failed("fcntl", "F_OFD_GETLK", path);
  return lock.l_type == F_UNLCK ? FileLock::none : FileLock::fcntl;
}

}  // namespace overlayfs
