// Where entries of an upper are made before they are put into place: what a killed process leaves behind lies
// here, and is removed by the next one.
#pragma once

#include <sys/stat.h>

#include "fd.h"
#include "result.h"

namespace overlayfs {

// With a work directory it is work/work, the kernel's own place for this, which the next mount empties too.
// Without one it is a directory of our own at the top of the upper, there only while this object is. The
// caller holds the lock of the work directory; without one this holds a lock of its own, waited for no longer
// than lock_work_directory() does: EWOULDBLOCK.
class CopyUpStaging {
 public:
  static Result<CopyUpStaging> in_work(int work);
  static Result<CopyUpStaging> in_upper(int upper);

  CopyUpStaging(CopyUpStaging&&) = default;
  CopyUpStaging& operator=(CopyUpStaging&&) = delete;
  ~CopyUpStaging();

  int directory() const { return directory_.get(); }

 private:
  CopyUpStaging() = default;
  Result<void> remove_leftovers();

  Fd parent_, directory_, readable_;  // `readable_` carries the lock
  const char* name_ = "";
  bool made_ = false;
  struct stat parent_before_ {};  // in the upper: its times are put back
  bool restores_times_ = false;
};

}  // namespace overlayfs
