// Which mounts show one superblock: in this mount namespace, in those of other processes, and in none.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "directory.h"
#include "mount_info.h"

namespace overlayfs {

// The mount that is asked about. Ids are mountinfo's here: only those are told of other processes and
// namespaces.
struct HeldMount {
  uint64_t id = 0;
  uint64_t device = 0;  // of the superblock: major << 32 | minor
  std::string point{};  // empty: in no mount table
  bool is_overlay = false;
};

// EINVAL from "statx": nothing is mounted at the path. An open descriptor need not be a mount's root.
Result<HeldMount> held_mount(const DirectoryRef& ref);
// ENOENT: not in this namespace. Unique ids are told from mountinfo's by their size.
Result<HeldMount> held_mount_by_id(uint64_t id);

// What a name in /proc/PID leads to, without asking the file system that it is on. A mount id of 0: not told.
struct HeldPlace {
  uint64_t device = 0, mount_id = 0, inode = 0;
  bool is_directory = false;
};
Result<HeldPlace> place_of(int directory, const char* name);

class MountIds {
 public:
  MountIds(const HeldMount& held, uint64_t own_namespace, const std::vector<MountInfo>& own_table);

  // Takes in a namespace's table, as one of its processes sees it.
  void add(uint64_t mount_namespace, const std::vector<MountInfo>& table);

  // Whether a place is on the mount, or on one of the same superblock that is not in this namespace.
  bool holds(const HeldPlace& place, int directory, const char* name);

  // The other namespace that a mount is in; 0: this one. Nowhere: detached.
  static constexpr uint64_t kNowhere = ~0ull;
  uint64_t namespace_of(uint64_t mount_id) const;

  // The other namespaces that the superblock is mounted in, and where: its first mount there.
  const std::map<uint64_t, std::string>& elsewhere() const { return elsewhere_; }

 private:
  struct Mount {
    uint64_t device, mount_namespace;
  };

  std::optional<uint64_t> overlay_device(int directory, const char* name);

  const HeldMount held_;
  const uint64_t own_namespace_;
  std::unordered_map<uint64_t, Mount> mounts_;
  std::map<uint64_t, std::string> elsewhere_;
  Fd notify_;
};

}  // namespace overlayfs
