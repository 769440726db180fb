// Unmounting by identity: the mount that is meant, wherever it has gone, and never another one.
#pragma once

#include <string>

#include "directory.h"
#include "result.h"

namespace overlayfs {

enum class Unmounted { now, already };

// `target` is where it was attached. Gone: `already`. Moved: found by its id. Under another mount: EBUSY from
// "statx", with that mount's place as the path; nothing is unmounted.
Result<Unmounted> unmount_overlay(const DirectoryIdentity& mount, const std::string& target, bool lazy);

// The topmost mount at `target`, if it is an overlay; EINVAL from "statfs" if it is none, or no mount point.
Result<void> unmount_topmost_overlay(const std::string& target, bool lazy);

// An O_PATH descriptor of the mount's root, at `target` or where it was moved to, and checked to be it.
// ENOENT: it is gone; EBUSY from "statx": another mount lies on top.
Result<Fd> open_mount_root(const DirectoryIdentity& mount, const std::string& target);

}  // namespace overlayfs
