// Is an upper or work directory used by a live overlay? Only the kernel knows: no mount table shows an
// overlay that was lazily detached, never attached, or mounted in another namespace.
#pragma once

#include <string>

#include "overlay_create.h"

namespace overlayfs {

enum class InUse { no, upper, work, unknown };

struct InUseAnswer {
  InUse answer = InUse::unknown;
  std::string reason;  // why it is unknown
};

// Makes a throw-away overlay with index=on whose lowers are the candidates: CREATE answers EBUSY if and only
// if they are in use. Nothing changes on them.
InUseAnswer probe_in_use(const OpenLayer& upper, const OpenLayer& work, Rung rung, bool detached_layers);

// The same of an upper without its work directory.
InUseAnswer probe_in_use(const OpenLayer& upper, Rung rung, bool detached_layers);

// The same of any directory, by the best rung that this kernel has.
InUseAnswer probe_in_use(const OpenLayer& directory, bool detached_layers);

// Holds flock(2) on the work directory, so that our own processes take turns between this question and their
// mounts.
Result<Fd> lock_work_directory(const OpenLayer& work);

}  // namespace overlayfs
