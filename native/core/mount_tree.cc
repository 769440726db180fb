#include "mount_tree.h"

#include <fcntl.h>
#include <sched.h>

#include <thread>

#include "directory.h"
#include "fs_context.h"
#include "sys.h"

namespace overlayfs {

Result<void> attach_mount(int mount, int target, const std::string& target_path) {
  if (sys::move_mount(mount, target) != 0) return failed("move_mount", {}, target_path);
  return {};
}

Result<void> set_propagation(int mount_root, uint64_t propagation) {
  if (sys::mount_setattr(mount_root,
                         {.attr_set = 0, .attr_clr = 0, .propagation = propagation, .userns_fd = 0}) == 0) {
    return {};
  }
  if (errno != ENOSYS && errno != EPERM) return failed("mount_setattr");
  if (sys::mount(nullptr, fd_name(mount_root).c_str(), nullptr, propagation, nullptr) != 0) {
    return failed("mount", "propagation");
  }
  return {};
}

Result<void> mount_overlay_by_string(const std::string& source, const std::string& target,
                                     unsigned long flags, const std::string& data, bool from_fd_directory) {
  const auto call = [&]() -> Result<void> {
    if (sys::mount(source.c_str(), target.c_str(), "overlay", flags, data.c_str()) == 0) return {};
    return failed("mount", data);
  };
  if (!from_fd_directory) return call();

  Result<void> result;
  std::thread([&] {
    if (sys::unshare(CLONE_FS) != 0) {
      result = failed("unshare", "CLONE_FS");
      return;
    }
    const Fd directory(sys::openat(AT_FDCWD, "/proc/self/fd", O_RDONLY | O_DIRECTORY));
    if (!directory || sys::fchdir(directory.get()) != 0) {
      result = failed("chdir", {}, "/proc/self/fd");
      return;
    }
    result = call();
  }).join();
  return result;
}

Result<void> remount_superblock(int mount_root, bool readonly) {
  auto context = FsContext::pick(mount_root);
  if (context) {
    TRY(context->set_flag(readonly ? "ro" : "rw"));
    return context->reconfigure();
  }
  if (context.error().err != ENOSYS) return std::move(context).error();
  // MS_REMOUNT sets the mount's own flags too, so those it has are said again.
  struct statfs fs {};
  if (sys::fstatfs(mount_root, &fs) != 0) return failed("fstatfs");
  constexpr unsigned long kept =
      abi::MS_NOSUID | abi::MS_NODEV | abi::MS_NOEXEC | abi::MS_NOATIME | abi::MS_NODIRATIME;
  const unsigned long flags =
      abi::MS_REMOUNT | (readonly ? abi::MS_RDONLY : 0) | (static_cast<unsigned long>(fs.f_flags) & kept);
  if (sys::mount(nullptr, fd_name(mount_root).c_str(), nullptr, flags, nullptr) != 0)
    return failed("mount", "MS_REMOUNT");
  return {};
}

Result<void> unmount_path(const std::string& path, bool lazy) {
  if (sys::umount2(path.c_str(), abi::UMOUNT_NOFOLLOW | (lazy ? abi::MNT_DETACH : 0)) == 0) return {};
  return failed("umount2", lazy ? "MNT_DETACH" : "", path);
}

}  // namespace overlayfs
