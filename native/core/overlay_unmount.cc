#include "overlay_unmount.h"

#include "mount_info.h"
#include "mount_tree.h"
#include "sys.h"

namespace overlayfs {
namespace {

bool is_same_mount(const DirectoryIdentity& a, const DirectoryIdentity& b) {
  return a.mount_id == b.mount_id && a.unique_mount_id == b.unique_mount_id;
}

// umount2(2) is told not to follow a link, so it gets the kernel's own name, not one that may hold links.
std::string path_for_unmount(int directory, const std::string& target) {
  std::string path = canonical_path(directory);
  return path.empty() ? target : path;
}

// Says of any other failure than "it is not there" that nothing is known.
bool is_elsewhere(const SysError& error) { return error.err == ENOENT || error.err == ENOTDIR; }

Result<Fd> open_root_at(const DirectoryIdentity& mount, const std::string& path) {
  Fd root = TRY(open_directory({path}));
  const DirectoryIdentity found = TRY(identify(root.get(), path));
  // On older kernels ids are used again, so the root's device and inode must agree too.
  const bool same = is_same_mount(found, mount) && (mount.unique_mount_id || found.same_directory(mount));
  if (!same) return SysError{ENOENT, "statx", "another mount is there", path, {}};
  return root;
}

}  // namespace

Result<Fd> open_mount_root(const DirectoryIdentity& mount, const std::string& target) {
  auto root = open_root_at(mount, target);
  if (root || !is_elsewhere(root.error())) return root;

  auto info = mount_info(mount.mount_id, mount.unique_mount_id, mount.reusable_mount_id);
  if (!info) return std::move(info).error();
  // Without unique ids the number may have been given to another mount since.
  if (info->type != "overlay") return SysError{ENOENT, "mountinfo", {}, target, {}};
  root = open_root_at(mount, info->point);
  if (!root && is_elsewhere(root.error()))
    return SysError{EBUSY, "statx", "another mount is on top", info->point, {}};
  return root;
}

Result<Unmounted> unmount_overlay(const DirectoryIdentity& mount, const std::string& target, bool lazy) {
  std::string path;
  {
    // Let go of before the unmount: a descriptor of the mount keeps it busy.
    auto root = open_mount_root(mount, target);
    if (!root && root.error().err == ENOENT) return Unmounted::already;
    if (!root) return std::move(root).error();
    path = path_for_unmount(root->get(), target);
  }
  TRY(unmount_path(path, lazy));
  return Unmounted::now;
}

Result<void> unmount_topmost_overlay(const std::string& target, bool lazy) {
  std::string path;
  {
    const Fd root = TRY(open_directory({target}));
    struct statfs fs {};
    if (sys::fstatfs(root.get(), &fs) != 0) return failed("fstatfs", {}, target);
    if (fs.f_type != abi::OVERLAYFS_SUPER_MAGIC)
      return SysError{EINVAL, "fstatfs", "not an overlay", target, {}};
    path = path_for_unmount(root.get(), target);
  }
  return unmount_path(path, lazy);
}

}  // namespace overlayfs
