// A mount tried as far as it changes nothing: what only the kernel knows, before it is asked in earnest.
#pragma once

#include "overlay_mount.h"

namespace overlayfs {

struct Rehearsal {
  bool complete = true;  // false: this kernel tells nothing before CREATE (before Linux 6.5)
  std::optional<MountFailure> failure;
  InUseAnswer in_use{InUse::unknown, {}};
  bool work_uncleanable =
      false;  // work/work is deeper than the kernel cleans: the overlay would come up read-only
};

// Hands every option and layer to a context that is never created, then makes a throw-away read-only overlay
// of the lowers alone, and asks whether upper and work are in use.
Result<Rehearsal> rehearse_overlay(const MountPlan& plan);

// Sets each option in a context of its own: 0, or the errno that refused it. Where the kernel checks nothing
// before CREATE (before 6.5), a throw-away overlay is created with it, which needs privilege.
Result<std::vector<int>> try_options(const std::vector<OverlayOption>& options);

}  // namespace overlayfs
