// rename(2) in an overlay, completed where the kernel gives EXDEV: a directory that a lower layer has,
// without redirect_dir. It is copied, published by one rename(2), and then removed.
#pragma once

#include <functional>
#include <string>
#include <variant>

#include "cancel.h"
#include "progress.h"
#include "recorded_tree.h"
#include "result.h"

namespace overlayfs {

struct RenamePlan {
  std::string from, to;  // as open_in_root() takes them; the last names are never followed
  bool noreplace = false, exchange = false;
  Cancel cancel;
  std::function<bool()> exiting;  // asked between two entries
  Progress progress;              // none: nobody asks
};

struct Renamed {
  bool copied = false;
  uint64_t entries = 0, bytes = 0;  // that were copied
};

enum class RenameFailed {
  overlay,    // it could not be reached
  rename,     // the call itself: everything is as it was
  refused,    // something in the tree would not survive a copy: everything is as it was
  changed,    // the tree was changed while it was copied: everything is as it was
  copy,       // the copy could not be made: everything is as it was
  half_done,  // it stands at `to`; of `from`, or of the staging directory, this is left
};
const char* rename_failed_name(RenameFailed how);

struct RenameFailure {
  RenameFailed how = RenameFailed::rename;
  SysError error;
  Remains remains;                        // of half_done
  std::string staging;                    // what could not be taken back: a directory beside `to` …
  std::optional<SysError> staging_error;  // … and why
};

std::variant<Renamed, RenameFailure> rename_in_overlay(int root, const RenamePlan& plan);

}  // namespace overlayfs
