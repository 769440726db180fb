#include "apply_seen.h"

#include <sys/stat.h>

#include "status.h"
#include "xattr_at.h"

namespace overlayfs {
namespace {

Result<std::string> attributes_of(const abi::Statx& status, int directory, const std::string& name) {
  std::string attributes, names;
  if (!S_ISDIR(status.mode)) return attributes;
  const std::string& place = name.empty() ? "." : name;
  TRY(list_xattr_names(directory, place, names));
  for (size_t at = 0, end; (end = names.find('\0', at)) != std::string::npos; at = end + 1) {
    const std::string attribute = names.substr(at, end - at);
    const auto value = TRY(xattr_value_at(directory, place, attribute));
    if (value)
      attributes.append(attribute)
          .append(1, '\0')
          .append(std::to_string(value->size()))
          .append(1, ' ')
          .append(*value);
  }
  return attributes;
}

}  // namespace

SeenEntries::Key SeenEntries::key_of(const abi::Statx& status) { return {device_of(status), status.ino}; }

Result<SeenEntries::Seen> SeenEntries::seen_of(const abi::Statx& status, int directory,
                                               const std::string& name) {
  return Seen{status.ctime,
              status.mtime,
              status.size,
              status.uid,
              status.gid,
              status.mode,
              TRY(attributes_of(status, directory, name))};
}

Result<void> SeenEntries::note(int entry) {
  const auto status = TRY(status_of(entry, {}));
  if (!seen_.contains(key_of(*status))) seen_.emplace(key_of(*status), TRY(seen_of(*status, entry, {})));
  return {};
}

Result<bool> SeenEntries::has(const abi::Statx& status, int directory, const std::string& name) const {
  const auto found = seen_.find(key_of(status));
  if (found == seen_.end()) return false;
  const Seen& seen = found->second;
  if (status.mode != seen.mode || status.uid != seen.uid || status.gid != seen.gid) return false;
  if (S_ISDIR(status.mode)) return TRY(attributes_of(status, directory, name)) == seen.attributes;
  return status.size == seen.size && status.mtime == seen.mtime && status.ctime == seen.ctime;
}

Result<void> SeenEntries::note_moved(const abi::Statx& status, int directory, const std::string& name) {
  const auto found = seen_.find(key_of(status));
  if (found != seen_.end())
    found->second.ctime = status.ctime;
  else
    seen_.emplace(key_of(status), TRY(seen_of(status, directory, name)));
  return {};
}

bool looks_the_same(const abi::Statx& one, const abi::Statx& other) {
  if (one.mode != other.mode || one.uid != other.uid || one.gid != other.gid) return false;
  return S_ISDIR(one.mode) || (one.size == other.size && one.mtime == other.mtime);
}

}  // namespace overlayfs
