#include "mount_tree.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/statvfs.h>

#include "directory.h"
#include "fs_context.h"
#include "sys.h"
#include "thread.h"

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
  const int started = run_on_own_thread([&] {
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
  });
  if (started != 0) return SysError{started, "clone", "a thread", {}, {}};
  return result;
}

// MS_REMOUNT sets the mount's own flags too, so those it has are said again; but for MS_RDONLY, which is the
// caller's.
static Result<unsigned long> own_flags(int mount_root) {
  struct statfs fs {};
  if (sys::fstatfs(mount_root, &fs) != 0) return failed("fstatfs");
  const auto has = static_cast<unsigned long>(fs.f_flags);
  constexpr unsigned long kept =
      abi::MS_NOSUID | abi::MS_NODEV | abi::MS_NOEXEC | abi::MS_NOATIME | abi::MS_NODIRATIME;
  const bool strict = (has & (abi::MS_NOATIME | ST_RELATIME)) == 0;
  return (has & kept) | (strict ? abi::MS_STRICTATIME : 0);
}

Result<void> remount_superblock(int mount_root, bool readonly) {
  auto context = FsContext::pick(mount_root);
  if (context) {
    TRY(context->set_flag(readonly ? "ro" : "rw"));
    return context->reconfigure();
  }
  if (context.error().err != ENOSYS && context.error().err != EPERM) return std::move(context).error();
  const unsigned long flags = abi::MS_REMOUNT | (readonly ? abi::MS_RDONLY : 0) | TRY(own_flags(mount_root));
  if (sys::mount(nullptr, fd_name(mount_root).c_str(), nullptr, flags, nullptr) != 0)
    return failed("mount", "MS_REMOUNT");
  return {};
}

Result<void> clear_mount_readonly(int mount_root) {
  const unsigned long flags = abi::MS_REMOUNT | abi::MS_BIND | TRY(own_flags(mount_root));
  if (sys::mount(nullptr, fd_name(mount_root).c_str(), nullptr, flags, nullptr) != 0)
    return failed("mount", "MS_REMOUNT | MS_BIND");
  return {};
}

unsigned long mount_flag(std::string_view word) {
  static constexpr std::pair<std::string_view, unsigned long> kFlags[] = {
      {"readonly", abi::MS_RDONLY},
      {"nosuid", abi::MS_NOSUID},
      {"nodev", abi::MS_NODEV},
      {"noexec", abi::MS_NOEXEC},
      {"noatime", abi::MS_NOATIME},
      {"nodiratime", abi::MS_NODIRATIME},
      {"relatime", abi::MS_RELATIME},
      {"strictatime", abi::MS_STRICTATIME},
      {"sync", abi::MS_SYNCHRONOUS},
      {"dirsync", abi::MS_DIRSYNC},
      {"mand", abi::MS_MANDLOCK},
      {"lazytime", abi::MS_LAZYTIME},
      {"nosymfollow", abi::MS_NOSYMFOLLOW},
      {"bind", abi::MS_BIND},
  };
  for (const auto& [name, flag] : kFlags) {
    if (name == word) return flag;
  }
  return 0;
}

Result<void> remount_path(const std::string& target, unsigned long flags) {
  if (sys::mount(nullptr, target.c_str(), nullptr, abi::MS_REMOUNT | flags, nullptr) != 0)
    return failed("mount", "MS_REMOUNT", target);
  return {};
}

Result<void> unmount_path(const std::string& path, bool lazy) {
  // Without MNT_DETACH, umount2(2) of the process's own root only makes it read-only, and says that it
  // succeeded.
  if (path == "/" && !lazy)
    return SysError{EOPNOTSUPP, "umount2", "the root directory of this process", path, {}};
  if (sys::umount2(path.c_str(), abi::UMOUNT_NOFOLLOW | (lazy ? abi::MNT_DETACH : 0)) == 0) return {};
  return failed("umount2", lazy ? "MNT_DETACH" : "", path);
}

}  // namespace overlayfs
