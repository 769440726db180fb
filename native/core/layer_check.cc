#include "layer_check.h"

#include <fcntl.h>

#include <algorithm>
#include <map>

#include "mount_info.h"
#include "sys.h"

namespace overlayfs {
namespace {

// The directories above `inner` on its own mount, nearest first.
Result<std::vector<DirectoryIdentity>> ancestors(const OpenLayer& inner) {
  std::vector<DirectoryIdentity> found;
  DirectoryIdentity child = inner.identity;
  Fd parent(sys::openat(inner.fd.get(), "..", O_PATH | O_DIRECTORY));
  while (true) {
    if (!parent) return failed("openat", "\"..\"", inner.path);
    const DirectoryIdentity identity = TRY(identify(parent.get(), inner.path));
    if (identity.mount_id != child.mount_id || identity.same_directory(child)) return found;
    found.push_back(identity);
    child = identity;
    parent.reset(sys::openat(parent.get(), "..", O_PATH | O_DIRECTORY));
  }
}

class FileSystemPaths {
 public:
  struct Place {
    uint64_t device;
    std::string path;
  };

  // Where a directory lies in its file system, whichever mount shows it; nothing if the mount is not in this
  // namespace.
  std::optional<Place> place(const OpenLayer& layer) {
    const MountInfo* mount = info(layer.identity);
    if (mount == nullptr) return std::nullopt;
    const std::string shown = canonical_path(layer.fd.get());
    if (shown.empty()) return std::nullopt;
    const std::string point = mount->point == "/" ? "" : mount->point;
    if (!shown.starts_with(point)) return std::nullopt;
    const std::string root = mount->root == "/" ? "" : mount->root;
    std::string path = root + shown.substr(point.size());
    return Place{mount->device, path.empty() ? "/" : path};
  }

 private:
  const MountInfo* info(const DirectoryIdentity& identity) {
    auto [entry, is_new] = mounts_.try_emplace(identity.mount_id);
    if (is_new) {
      if (auto found = mount_info(identity.mount_id, identity.unique_mount_id))
        entry->second = *std::move(found);
    }
    return entry->second ? &*entry->second : nullptr;
  }

  std::map<uint64_t, std::optional<MountInfo>> mounts_;
};

bool lies_in(const std::string& inner, const std::string& outer) {
  if (outer == "/") return inner != "/";
  return inner.size() > outer.size() && inner.starts_with(outer) && inner[outer.size()] == '/';
}

}  // namespace

Result<Containment> find_containing_lower(const OpenLayer& inner, const std::vector<OpenLayer>& lower) {
  if (lower.empty()) return Containment{};
  const std::vector<DirectoryIdentity> above = TRY(ancestors(inner));
  // The device number tells superblocks apart, but on btrfs, where each subvolume has its own.
  struct statfs fs {};
  const bool has_subvolumes = sys::fstatfs(inner.fd.get(), &fs) == 0 && fs.f_type == abi::BTRFS_SUPER_MAGIC;
  Containment containment;
  FileSystemPaths paths;
  for (size_t i = 0; i < lower.size(); ++i) {
    const DirectoryIdentity& candidate = lower[i].identity;
    for (const DirectoryIdentity& ancestor : above) {
      if (ancestor.same_directory(candidate)) return Containment{i, true};
    }
    if (candidate.mount_id == inner.identity.mount_id) continue;
    if (candidate.device != inner.identity.device && !has_subvolumes) continue;

    const auto inner_place = paths.place(inner);
    const auto outer_place = paths.place(lower[i]);
    if (!inner_place || !outer_place) {
      containment.verified = false;
    } else if (inner_place->device == outer_place->device && lies_in(inner_place->path, outer_place->path)) {
      return Containment{i, true};
    }
  }
  return containment;
}

Result<bool> are_separate(const OpenLayer& one, const OpenLayer& other) {
  const auto lies_in_directory = [](const OpenLayer& inner, const OpenLayer& outer) -> Result<bool> {
    const std::vector<DirectoryIdentity> above = TRY(ancestors(inner));
    return std::any_of(above.begin(), above.end(), [&](const DirectoryIdentity& directory) {
      return directory.same_directory(outer.identity);
    });
  };
  if (one.identity.same_directory(other.identity) || TRY(lies_in_directory(one, other))) return false;
  return !TRY(lies_in_directory(other, one));
}

}  // namespace overlayfs
