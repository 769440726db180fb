// What can be said of a layer or target without changing it: the evidence that explains a refused mount.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "directory.h"
#include "mount_info.h"

namespace overlayfs {

struct DirectoryFacts {
  std::optional<SysError> error;  // it cannot be opened; nothing below is known then
  bool is_directory = false;
  bool searchable = false;  // its entries can be looked up, by this process
  DirectoryIdentity identity;
  int64_t file_system = 0;  // f_type of statfs(2)
  bool readonly = false;    // mount or superblock
  int trusted_xattr_error = 0,
      user_xattr_error = 0;                // of looking up an overlay attribute; 0: attributes work
  bool volatile_marker = false;            // work/incompat/volatile is in it
  std::shared_ptr<const MountInfo> mount;  // none: the mount is not in this namespace, so detached
  std::string canonical_path;              // the kernel's own name for it
};

// In the order of the refs; what lies on one mount shares that mount's information.
std::vector<DirectoryFacts> directory_facts(const std::vector<DirectoryRef>& refs);

}  // namespace overlayfs
