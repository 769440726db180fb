// What the kernel leaves in an upper and its work directory, and taking back what a failed mount left there.
#pragma once

#include <optional>
#include <set>
#include <string>

#include "fd.h"
#include "result.h"

namespace overlayfs {

// What stood in upper and work before a mount was tried. A CREATE that fails is not clean: it can leave
// work/work, work/index and overlay.uuid, overlay.origin or overlay.impure on the upper.
class LayerSnapshot {
 public:
  // Readable descriptors; both must outlive the snapshot.
  static LayerSnapshot take(int upper, int work);
  // Removes what was not there before, and nothing else; puts back a volatile marker that has been removed
  // since.
  void restore() const;

 private:
  int upper_ = -1, work_ = -1;
  bool had_work_ = true, had_index_ = true;
  bool had_marker_ = false;
  std::optional<std::set<std::string>> xattrs_;  // none: they could not be read, so none is removed
};

// The marker of a volatile mount, work/work/incompat/volatile: the kernel refuses the work directory while it
// is there.
bool has_volatile_marker(int work);
Result<void> remove_volatile_marker(int work);

}  // namespace overlayfs
