#include "store_lock.h"

#include <fcntl.h>
#include <sys/file.h>

#include "beneath.h"
#include "directory.h"
#include "sys.h"

namespace overlayfs {

Result<Fd> lock_directory(int root, const std::string& path, StoreLock kind) {
  const int operation = (kind == StoreLock::shared ? LOCK_SH : LOCK_EX) | LOCK_NB;
  while (true) {
    Fd locked = TRY(open_beneath(root, path, O_RDONLY | O_DIRECTORY));
    if (sys::flock(locked.get(), operation) != 0)
      return failed("flock", kind == StoreLock::shared ? "LOCK_SH" : "LOCK_EX", path);
    const Fd named = TRY(open_beneath(root, path, O_PATH | O_DIRECTORY));
    const DirectoryIdentity mine = TRY(identify(locked.get(), path)), now = TRY(identify(named.get(), path));
    if (mine.same_directory(now)) return locked;
  }
}

}  // namespace overlayfs
