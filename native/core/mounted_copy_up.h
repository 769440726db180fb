// Copy-up through the mount: the kernel does it, on several threads; the upper is never touched beside it.
#pragma once

#include <sys/types.h>

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "cancel.h"
#include "fd.h"
#include "progress.h"
#include "result.h"
#include "tree_place.h"

namespace overlayfs {

enum class MountedOutcome : uint8_t {
  copied,
  copied_or_present,  // the file system keeps no time of birth, which would tell
  metadata,           // of a program that runs, under metacopy: its data is copied when it is written to
  present,            // it was in the upper already
  immutable,
  append_only,
  other_mount,
  vanished,  // since its directory was read
};

struct MountedEntry {
  std::string path;  // below the root of the overlay
  MountedOutcome outcome;
  uint64_t bytes = 0;  // the size of a regular file that was copied
};

struct MountedCopyUpOptions {
  bool recursive = false;  // directories with all that is below them; a directory comes before what it holds
  unsigned threads = 1;
  bool metacopy = false;  // the overlay is known to have it; where a mount table shows it, it is seen there
  Progress progress = nullptr;  // none: nobody asks
};

// Paths are taken as open_in_root() takes them, without slashes at their ends; the last name is never
// followed.
class MountedCopyUp {
 public:
  MountedCopyUp(Fd root, const std::vector<std::string>& paths, const MountedCopyUpOptions& options);

  // What has been dealt with since, at most about a thousand, fewer where their paths are long; none: that
  // was all. Nothing is done between two calls, and nothing more once something has failed, which is told
  // when all that was done has been.
  Result<std::vector<MountedEntry>> next(const Cancel& cancel);

 private:
  struct Item {
    TreePlacePtr above;  // none: the name is the caller's path
    std::string name;
  };
  struct Children {
    std::shared_ptr<const Fd> directory;
    std::vector<std::string> names;
  };

  void work(const Cancel& cancel);
  Result<MountedEntry> copy_up(const Item& item, std::optional<Children>& children);
  Result<Fd> locate(const Item& item);
  Result<MountedOutcome> copy_up_inode(int inode, mode_t type);
  void enqueue(Item item, Children children);

  const Fd root_;
  const MountedCopyUpOptions options_;
  bool metacopy_;

  TreePlaces places_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Item> waiting_;  // the last one first
  std::vector<MountedEntry> done_;
  size_t done_bytes_ = 0;  // of their paths
  size_t under_way_ = 0;
  std::optional<SysError> failure_;
};

}  // namespace overlayfs
