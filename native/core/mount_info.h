// What the kernel says of a mount: statmount(2) and listmount(2), or proc_pid_mountinfo(5) where those are
// missing.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "result.h"

namespace overlayfs {

struct MountInfo {
  uint64_t id = 0, parent_id = 0;  // unique when `unique_ids`, else mountinfo's reusable numbers
  uint64_t old_id = 0;             // mountinfo's number, always
  bool unique_ids = false;
  uint64_t device = 0;  // of the superblock: major << 32 | minor
  std::string root;     // of the mount, within its file system
  std::string point;    // in this process's root
  std::string type;     // "overlay"
  std::string source;
  std::string
      options;  // of the superblock, comma separated and escaped as the kernel shows them, without ro or rw
  uint64_t attributes = 0;  // MOUNT_ATTR_*
  bool superblock_readonly = false;
  uint64_t propagation = 0;  // MS_SHARED | MS_SLAVE | MS_PRIVATE | MS_UNBINDABLE
};

// One mount of this namespace. ENOENT: there is no such mount here (detached, unmounted, or another
// namespace's).
Result<MountInfo> mount_info(uint64_t id, bool unique_id, uint64_t reusable_id = 0);

// Whether a mount of this namespace is shared, by its unique id: asks for that alone, not for every string.
bool is_shared_mount(uint64_t unique_id);

// Where other mounts hang below any of these directories (canonical paths), in mounting order.
Result<std::vector<std::string>> mounts_below(const std::vector<std::string>& directories);

// All mounts of a type in this namespace, in mounting order. `from_mountinfo` reads proc(5) even where
// listmount(2) is.
Result<std::vector<MountInfo>> list_mounts(std::string_view type, bool from_mountinfo);

// The mount table as another process sees it: what is below its root, in its mount namespace, by mountinfo's
// ids.
Result<std::vector<MountInfo>> read_mount_table(int process_directory);

// The parser of proc_pid_mountinfo(5); lines that it cannot read are left out.
std::vector<MountInfo> parse_mountinfo(std::string_view text);

}  // namespace overlayfs
