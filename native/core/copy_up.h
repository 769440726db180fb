// Copying up without a mount: the upper is written as overlayfs itself would write it (fs/overlayfs/copy_up.c
// of the kernel).
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "copy_entry.h"
#include "copy_up_staging.h"
#include "in_use.h"
#include "layer_stack.h"
#include "merged_lookup.h"
#include "progress.h"
#include "recently_opened.h"

namespace overlayfs {

struct CopyUpOrder {
  std::vector<std::string> paths;  // of the merged view, without a leading slash; the root is empty
  bool recursive = false;
  size_t threads = 1;
  std::vector<Rung> rungs;  // by which the kernel is asked whether the upper is in use
  bool detached_layers = false;
  bool can_tell_in_use = true;  // false inside a user namespace, where it always says free
  Progress progress;            // may be null
};

// What refuses a copy-up, before anything of it is done or for one path.
enum class CopyUpRefusal {
  none,         // a system call's error, of a path
  open_layer,   // a layer cannot be opened
  work_locked,  // another process of ours is at work
  upper_in_use,
  work_in_use,
  work_on_other_mount,
  work_not_separate,
  has_index,    // the work directory has an index, or would need one
  work_needed,  // the upper has been written with an index
  unwritable,   // nothing can be made in the upper's file system
};

struct CopyUpResult {
  size_t order = 0;
  std::string path;
  std::optional<CopiedData> data;  // none: skipped
  std::string reason;
};

struct CopyUpBatch {
  std::vector<CopyUpResult> results;
  std::optional<SysError> error;  // what ended it, after these
  CopyUpRefusal refusal = CopyUpRefusal::none;
  bool more = false;
};

class CopyUp {
 public:
  // Nothing but the locks and the staging directory has been touched when this returns.
  static Result<std::shared_ptr<CopyUp>> open(const LayerStack& stack, CopyUpOrder order,
                                              CopyUpRefusal* refusal);
  CopyUp(const CopyUp&) = delete;
  CopyUp& operator=(const CopyUp&) = delete;

  // As many paths as take about two seconds, durable when this returns. One call at a time.
  CopyUpBatch next(const Cancel& cancel);

  // Why it is not known whether the upper is in use; empty: it is known.
  const std::string& in_use_unknown() const { return in_use_.reason; }

 private:
  // A directory of the merged view, and its counterpart in the upper as soon as there is one. It knows its
  // name alone, and few are open at a time: however deep a tree is, it takes as much memory as it has names.
  struct Directory {
    Directory() = default;
    Directory(const Directory&) = delete;
    Directory& operator=(const Directory&) = delete;
    ~Directory();  // lets go of those above one by one: recursion would be as deep as the tree

    struct Part {
      size_t layer;
      std::string path;  // a name in the part that the directory above has of this layer, or
      bool rooted;       // from the layer's root
      bool xattr_whiteouts;
    };

    std::shared_ptr<Directory> parent;
    std::string name;
    std::vector<Part> parts;
    std::mutex making;  // for what follows
    bool in_upper = false;
    uint64_t upper_inode = 0;  // to know it again
    struct stat times {};      // those that it must keep while entries are put into it
    bool made = false;         // by us
    bool impure = false;       // and marked so
    std::vector<std::string> dropped;
    std::weak_ptr<const MergedDirectory> merged;  // these two by `resolving_`
    std::weak_ptr<const Fd> upper;
  };
  using DirectoryPtr = std::shared_ptr<Directory>;

  struct Task {
    size_t order = 0;
    std::string name;     // in `parent`; without one a path, named by the caller
    DirectoryPtr parent;  // of one that was found by listing
    DirectoryPtr list;    // not an entry: what is in this directory
  };
  struct Turn;

  CopyUp(MergedLayers layers, CopyUpOrder order);
  Result<void> prepare(CopyUpRefusal* refusal);
  Result<void> check_in_use(const OpenLayer& upper, const OpenLayer* work, CopyUpRefusal* refusal);

  // The queue that the threads of a turn share: copy_up.cc.
  void work(Turn& turn);
  void finish(Turn& turn, const Task& task, Result<std::optional<CopyUpResult>> outcome,
              CopyUpRefusal refusal);
  std::optional<Task> take(Turn& turn);
  Result<void> list(const DirectoryPtr& directory);
  static std::string path_of(const Task& task);

  // One path: copy_up_entry.cc.
  Result<std::optional<CopyUpResult>> carry_out(const Task& task, const Cancel& cancel,
                                                CopyUpRefusal* refusal);
  static SysError refused_error(const Refused& refused);
  Result<void> copy_directory_up(const DirectoryPtr& directory, CopyUpResult* result);
  Result<void> copy_file_up(Directory& parent, const std::string& name, const MergedEntry& entry,
                            const CopyOptions& options, CopyUpRefusal* refusal, CopyUpResult* result);
  Result<CopiedData> complete_metacopy(const MergedEntry& entry, const CopyControl& control,
                                       CopyUpRefusal* refusal);
  Result<void> ensure_upper(Directory& directory);
  Result<void> make_upper(Directory& directory);
  Result<void> mark_impure(Directory& directory);
  Result<std::shared_ptr<const Fd>> make_ready(Directory& directory);
  CopyOptions options_for(const Cancel& cancel);
  Result<void> add_origin(const Source& source, size_t layer, CopyOptions* options) const;

  // The directories that are known: copy_up_directories.cc. Without paths in their layers, since errors name
  // the entry that is copied.
  using OpenDirectory = std::shared_ptr<const MergedDirectory>;
  DirectoryPtr known_directory(const Directory* parent, const std::string& name);
  Result<DirectoryPtr> directory(const std::string& path);
  Result<DirectoryPtr> child(const DirectoryPtr& parent, const MergedDirectory& open_parent,
                             const std::string& name, const MergedEntry& entry);
  Result<DirectoryPtr> root();
  void forget_idle_directories();
  Result<OpenDirectory> opened(Directory& directory);
  Result<OpenDirectory> open_in(const MergedDirectory& parent, const Directory& directory) const;
  Result<std::shared_ptr<const Fd>> upper_of(Directory& directory);

  MergedLayers layers_;
  CopyUpOrder order_;
  InUseAnswer in_use_;
  Fd lock_;  // on the work directory
  std::optional<CopyUpStaging> staging_;
  Fd upper_for_sync_;
  std::vector<Uuid> uuids_;       // of the file systems of the lowers
  bool decodes_handles_ = false;  // otherwise the kernel writes origins that say nothing

  std::mutex mutex_;  // of the queue
  std::condition_variable changed_;
  std::deque<Task> tasks_;
  size_t ordered_ = 0;

  // One for each kind: otherwise the way down to one would close the other.
  RecentlyOpened recent_merged_{descriptors_to_keep() / 2}, recent_uppers_{descriptors_to_keep() / 2};
  std::mutex resolving_;  // of the directories that are known: by the one above, and their names
  DirectoryPtr root_;
  std::map<std::pair<const Directory*, std::string>, DirectoryPtr> directories_;
  size_t most_directories_ = 256;  // before those that nothing uses are let go of
};

}  // namespace overlayfs
