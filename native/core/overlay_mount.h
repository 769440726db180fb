// Carries a whole mount plan out: checks what the kernel would take in silence, creates, verifies, attaches;
// on failure says which step it was and takes everything back.
#pragma once

#include <sys/types.h>

#include <functional>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "in_use.h"
#include "overlay_create.h"

namespace overlayfs {

struct MountPlan {
  // False: exactly what the kernel does. Nothing is checked, and nothing that it did is taken back but the
  // mount.
  bool policy = true;
  std::vector<DirectoryRef> lower, data_only_lower;
  std::optional<DirectoryRef> upper, work;
  bool scratch = false;                  // upper and work on a private tmpfs …
  std::optional<uint64_t> scratch_size;  // … of this many bytes
  bool empty_lower = false;  // add an empty lower: the kernel takes no single one without an upper
  std::vector<OverlayOption> options;
  std::string source;
  bool readonly = false;
  uint64_t mount_attributes = 0;
  uint64_t propagation = 0;   // MS_PRIVATE …; 0: what the parent mount makes of it
  std::string target;         // empty: stay detached
  bool make_target = false;   // one directory …
  mode_t target_mode = 0755;  // … with this mode
  std::vector<Rung> rungs;
  bool detached_layers = false;  // what KernelFeatures found
  bool check_in_use = true;
  bool can_tell_in_use = true;  // false inside a user namespace, where the probe always says free
  bool remove_volatile_marker = false;
  bool require_xattrs = false;
  std::string xattr_prefix;  // "trusted.overlay." or "user.overlay."
  bool keep_upper_for_sync = false;
  bool needs_file_handles = false;  // for index and nfs_export: report where they are missing
};

enum class Step {
  open_layer,
  check_upper,     // deleted, or without xattrs
  check_in_lower,  // upper or work inside a lower
  check_in_use,
  clear_marker,
  scratch,
  target,
  create,
  verify_writable,
  attach
};
const char* step_name(Step step);

struct Attempt {
  Rung rung;
  SysError error;
};

struct MountFailure {
  Step step = Step::open_layer;
  SysError error;
  std::string role;   // "lower", "dataOnlyLower", "upper" or "work", where one layer is to blame
  size_t index = 0;   // which lower
  std::string other;  // the lower that contains it
  std::vector<Attempt> attempts;
};

struct MountedLayers {
  std::vector<Fd> lower, data_only_lower;
  Fd upper, work;
};

struct Mounted {
  Fd root;  // the mount's own descriptor while detached; none once attached
  MountedLayers layers;
  Fd upper_for_sync;  // opened before anything was written, so that syncfs(2) reports every write-back error
                      // since
  DirectoryIdentity identity;
  Rung rung = Rung::layer_fds;
  std::vector<Attempt> attempts;
  InUseAnswer in_use{InUse::unknown, {}};
  bool containment_verified = true;
  bool upper_without_xattrs = false;
  bool without_file_handles = false;
  std::optional<DirectoryIdentity> made_target;  // the directory, if we made it
  bool propagated = false;                       // the parent was shared: copies appeared in its peers
};

// `aborted` is asked before anything becomes visible: the process is exiting.
std::variant<Mounted, MountFailure> mount_overlay(const MountPlan& plan,
                                                  const std::function<bool()>& aborted);

// Hangs a detached overlay onto `target`; `made` tells whether this made the directory.
struct Attached {
  DirectoryIdentity identity;
  std::optional<DirectoryIdentity> made_target;
  bool propagated = false;
};
Result<Attached> attach_overlay(int mount, const std::string& target, bool make_target, uint64_t propagation);

}  // namespace overlayfs
