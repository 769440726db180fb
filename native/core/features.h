// What this kernel, with this privilege, can do for overlay mounts. Found by trying, never by version number.
#pragma once

#include <string>
#include <vector>

#include "result.h"

namespace overlayfs {

enum class LayerFds {
  none,
  readable,
  path
};  // no SET_FD for layers; O_RDONLY only (6.13); O_PATH too (6.14)

struct KernelFeatures {
  int fsopen_error = 0;  // 0, or why fsopen("overlay") is not to be had: ENOSYS, ENODEV, EPERM
  bool native_parser =
      false;  // overlayfs reads its options itself (6.5); before that a wrapper takes any key
  LayerFds layer_fds = LayerFds::none;
  bool lowerdir_append = false;  // lowerdir+ (6.7)
  bool detached_layers = false;  // layers on a detached mount (6.15)
  bool statmount = false;        // statmount(2) and unique mount ids (6.8)
  bool initial_user_namespace = true;
  bool sys_admin = false;  // CAP_SYS_ADMIN is in effect, in whatever user namespace this is
  std::vector<std::string>
      options;  // overlay option keys that this kernel takes; empty without the native parser
  // Calls that gave EPERM although they need no privilege, or this process has it: a seccomp filter, or a
  // security module.
  std::vector<std::string> filtered;
};

KernelFeatures probe_kernel_features();

bool has_capability(unsigned capability);  // in effect, in whatever user namespace this is
bool in_initial_user_namespace();

// Makes a throw-away, never attached overlay of two empty lowers (the second data-only if asked) with these
// options: 0, or the errno that refused it.
struct TrialOption {
  std::string key, value;
};
Result<int> try_create(const std::vector<TrialOption>& options, bool data_only);

}  // namespace overlayfs
