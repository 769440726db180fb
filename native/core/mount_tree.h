// Where a mount hangs: attaching, changing and detaching mounts, each under one meaning.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "fd.h"
#include "result.h"

namespace overlayfs {

// move_mount(2): hangs a detached mount (or moves an attached one) onto the directory behind `target`.
Result<void> attach_mount(int mount, int target, const std::string& target_path);

// mount_setattr(2), or mount(2) where that is missing: MS_PRIVATE, MS_SLAVE, MS_SHARED or MS_UNBINDABLE.
Result<void> set_propagation(int mount_root, uint64_t propagation);

// mount(2) of an overlay. `from_fd_directory`: layer names in `data` are relative to /proc/self/fd; the call
// is then made on a thread of its own, since its working directory must be unshared from the process's.
Result<void> mount_overlay_by_string(const std::string& source, const std::string& target,
                                     unsigned long flags, const std::string& data, bool from_fd_directory);

// Makes the superblock of a mounted overlay read-only or writable: fspick(2), or mount(2) where that is
// missing.
Result<void> remount_superblock(int mount_root, bool readonly);

// mount(2) has one read-only flag for superblock and mount: takes it back from the mount.
Result<void> clear_mount_readonly(int mount_root);

// The MS_ flag that a word of mount(8) stands for; 0: none.
unsigned long mount_flag(std::string_view word);

// mount(2) with MS_REMOUNT and these flags alone: what they do not say is taken away.
Result<void> remount_path(const std::string& target, unsigned long flags);

// umount2(2), never following a symbolic link at the end of `path`.
Result<void> unmount_path(const std::string& path, bool lazy);

}  // namespace overlayfs
