// The directory in which a rename builds its copy: beside the place that the copy is for, out of everybody's
// reach, and recognisable to the next rename when a process was killed over it.
#pragma once

#include <sys/stat.h>

#include <string>
#include <utility>

#include "fd.h"
#include "result.h"

namespace overlayfs {

class RenameStaging {
 public:
  // What the copy is called in there; and a file that says what this is, which sorts behind it: removed last.
  static constexpr const char* kTree = "copy";
  static constexpr const char* kMarker = "readme";

  RenameStaging(const RenameStaging&) = delete;
  RenameStaging& operator=(const RenameStaging&) = delete;
  RenameStaging(RenameStaging&& other) noexcept
      : parent_(other.parent_),
        name_(std::move(other.name_)),
        directory_(std::move(other.directory_)),
        is_there_(std::exchange(other.is_there_, false)),
        before_(other.before_),
        after_(other.after_) {}
  RenameStaging& operator=(RenameStaging&&) = delete;
  ~RenameStaging();

  // `.overlayfs-rename-<random>` in a directory (any descriptor), mode 0700, locked (flock(2)) while it
  // lives.
  static Result<RenameStaging> make(int parent);

  int fd() const { return directory_.get(); }
  const std::string& name() const { return name_; }

  // Removes it with all that is in it. `as_before`: gives the directory that it is in back its time of
  // modification, unless somebody else has changed that too.
  Result<void> remove(bool as_before);

 private:
  RenameStaging(int parent, std::string name, const struct stat& before)
      : parent_(parent), name_(std::move(name)), before_(before), after_(before) {}
  Result<bool> has_its_name() const;

  int parent_;
  std::string name_;
  Fd directory_;
  bool is_there_ = true;
  struct stat before_ {
  }, after_{};  // the parent, before and after it was made
};

// Removes what processes that are gone have left in a directory: named and owned as above, with our marker in
// it or empty, and locked by nobody. What is not entirely ours stays, and no error matters.
void remove_stale_stagings(int parent);

}  // namespace overlayfs
