// The directory in a target where everything is made ready, and where whatever leaves its name waits until
// all is done. Every step is remembered, and can be taken back.
#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "apply_recovery.h"
#include "apply_target.h"
#include "copy_metadata.h"
#include "fd.h"
#include "rename.h"
#include "result.h"
#include "tree_path.h"

namespace overlayfs {

class ApplyStaging {
 public:
  static Result<ApplyStaging> create(TargetTree& target);

  int directory() const { return directory_.get(); }
  Result<void> record(const std::vector<Taking>& takings) {
    return record_takings(directory_.get(), takings);
  }

  // Each step says which change it is for. Nothing may have the name, unless it is `exchange`d: what stood
  // there then stands in the staging directory, under the name that the new one had. A `quiet` one is no
  // change of the directory: its times stay.
  Result<void> take(size_t change, const std::string& path, const std::string& staged);
  Result<void> put(size_t change, const std::string& staged, const std::string& path, bool exchange,
                   bool quiet);
  // From here on paths are those of the after-view.
  void begin_placing() { touched_.clear(); }
  // Gives the directories in which there were but quiet steps the times that they had.
  Result<void> restore_times();
  // Makes a directory's metadata that of another, but for attributes that are given.
  Result<std::vector<std::string>> set_metadata(size_t change, const std::string& path, Inode source,
                                                const struct stat& status, const MetadataOptions& options);
  Result<void> set_times(const std::string& path, const struct stat& status);

  // Gives an inode of the target another name, in here.
  Result<void> link(const std::string& path, const DirectoryEntry& here);
  // Whether an entry of the target is what it was when it was compared.
  Result<void> still_as_seen(const std::string& path);
  // The same of everything that has left its place; directories with all that is in them, but where the
  // caller knows that they hold something else.
  template <class IsKnown>
  Result<void> verify(IsKnown is_known) {
    for (const Action& action : log_) {
      if (action.step == Step::taken || action.step == Step::exchanged)
        TRY(verify_one(action, !is_known(action.change)));
    }
    return {};
  }
  // What has been changed in the target since it was compared, if that was the error.
  const std::optional<std::string>& edited() const { return edited_; }

  // All is done. From here on nothing is taken back, and whoever comes after a kill only removes what is
  // left.
  Result<void> commit();
  // Removes what was taken out. What cannot be removed gets a name that no run ever clears.
  std::optional<std::string> clear();

  // Takes everything back, newest first, and removes the staging directory.
  struct Undone {
    std::vector<size_t> kept;  // the changes that could not be taken back
    std::string left;          // the staging directory, where not everything could be
  };
  Undone undo();

 private:
  enum class Step : uint8_t { taken, put, exchanged, metadata, times };
  struct Action {
    Step step;
    size_t change;
    std::string path, staged;
    struct stat status;
  };

  explicit ApplyStaging(TargetTree& target) : target_(&target) {}
  struct Touched {
    struct stat before;
    bool quiet;
  };
  // Remembers the times of a directory before its first name changes.
  Result<void> touch(const std::string& directory, bool quiet);
  Result<void> undo_one(const Action& action);
  SysError was_edited(const std::string& path);  // and remembers it, for edited()
  // What is about to leave its name, and the same when it has.
  Result<abi::Statx> leaving(const DirectoryEntry& there, const std::string& path);
  Result<void> has_left(const abi::Statx& before, const std::string& staged, const std::string& path);
  Result<void> has_moved(const DirectoryEntry& there);
  Result<void> verify_one(const Action& action, bool with_content);
  Result<void> verify_tree(const std::string& staged, const std::string& path);

  TargetTree* target_;
  Fd directory_;
  std::vector<Action> log_;
  std::optional<std::string> edited_;
  std::unordered_map<std::string, Touched> touched_;
  bool root_touched_ = false;
  MetadataOptions metadata_;
  struct stat root_ {};  // what its times are when the staging directory has gone
};

// Makes owner, mode, attributes and times of a directory those of another; attributes that the other has not
// are removed, but for the overlay's own. Gives the names of those that could not be taken.
Result<std::vector<std::string>> equalise_metadata(Inode from, Inode to, const struct stat& status,
                                                   const MetadataOptions& options);

}  // namespace overlayfs
