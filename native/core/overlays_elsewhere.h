// The overlays of other mount namespaces, as far as /proc shows them.
#pragma once

#include <vector>

#include "mount_info.h"

namespace overlayfs {

struct OverlayElsewhere {
  int pid = 0;  // of a process in that namespace: what names mean there, they mean below /proc/PID/root
  MountInfo mount;
};

struct OverlaysElsewhere {
  std::vector<OverlayElsewhere> overlays;
  size_t unseen = 0;  // processes that may not be looked at
};

Result<OverlaysElsewhere> overlays_elsewhere();

}  // namespace overlayfs
