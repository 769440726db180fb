// Making an overlay from open layers: the ladder of ways in which kernels take them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "fs_context.h"
#include "layer_check.h"

namespace overlayfs {

// One way to hand an overlay to the kernel; each is tried only if the kernel has no better one.
enum class Rung {
  layer_fds,      // fsconfig(2), layers as descriptors (6.13)
  layer_names,    // fsconfig(2), lowerdir+ with names (6.7)
  joined_names,   // fsconfig(2), one lowerdir= of at most 255 bytes: detached views before 6.7
  mount,          // mount(2), layers as escaped names in one page
  mount_fd_names  // mount(2) from /proc/self/fd, layers as bare descriptor numbers
};
const char* rung_name(Rung rung);

struct OverlayOption {
  std::string key;
  std::optional<std::string> value;  // none: a flag
};

// An overlay with every layer open and every option spelled out.
struct OverlaySpec {
  std::vector<OpenLayer> lower, data_only_lower;
  std::optional<OpenLayer> upper, work;
  std::vector<OverlayOption> options;
  std::string source;
  bool readonly = false;
  uint64_t mount_attributes = 0;  // MOUNT_ATTR_*
};

// For the fsconfig rungs: a context with every option and layer set, not yet created; nothing has changed so
// far.
Result<FsContext> configure(const OverlaySpec& spec, Rung rung);

// For the fsconfig rungs: a detached mount.
Result<Fd> create_detached(const OverlaySpec& spec, Rung rung);

// For the mount(2) rungs: mounts onto `target`, a path that the kernel resolves.
Result<void> create_at(const OverlaySpec& spec, Rung rung, const std::string& target);

// This error says that the kernel lacks the rung, not that the overlay is wrong.
bool is_rung_missing(Rung rung, const SysError& error);

}  // namespace overlayfs
