#include "apply_seen.h"

#include <sys/stat.h>

#include "status.h"

namespace overlayfs {

SeenEntries::Key SeenEntries::key_of(const abi::Statx& status) { return {device_of(status), status.ino}; }

SeenEntries::Seen SeenEntries::seen_of(const abi::Statx& status) {
  return {status.ctime, status.mtime, status.size, status.uid, status.gid, status.mode};
}

void SeenEntries::note(const abi::Statx& status) { seen_.try_emplace(key_of(status), seen_of(status)); }

bool SeenEntries::has(const abi::Statx& status) const {
  const auto found = seen_.find(key_of(status));
  if (found == seen_.end()) return false;
  const Seen& seen = found->second;
  if (status.mode != seen.mode || status.uid != seen.uid || status.gid != seen.gid) return false;
  return S_ISDIR(status.mode) ||
         (status.size == seen.size && status.mtime == seen.mtime && status.ctime == seen.ctime);
}

void SeenEntries::note_moved(const abi::Statx& status) {
  const auto [entry, is_new] = seen_.try_emplace(key_of(status), seen_of(status));
  if (!is_new) entry->second.ctime = status.ctime;
}

bool looks_the_same(const abi::Statx& one, const abi::Statx& other) {
  if (one.mode != other.mode || one.uid != other.uid || one.gid != other.gid) return false;
  return S_ISDIR(one.mode) || (one.size == other.size && one.mtime == other.mtime);
}

}  // namespace overlayfs
