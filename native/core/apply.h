// Changes carried over into a plain directory: what looked like the before-view (the lowers) looks like the
// after-view (with the upper) then, as far as the changes say so. Everything is looked at and made ready
// before the first name changes, and all is taken back if one cannot be changed.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "apply_staging.h"
#include "change_record.h"
#include "copy_data.h"
#include "layer_stack.h"
#include "merged_lookup.h"

namespace overlayfs {

// One entry of a change set, as far as it says what is to be done; the layers tell the rest.
struct ApplyChange {
  ChangeKind kind = ChangeKind::added;
  bool replaces = false;   // of `renamed`: something stood there
  bool fields = false;     // of `renamed`: something of it differs, or may
  bool directory = false;  // what stands there, or of `deleted` what stood there
  std::optional<uint64_t> link_group;
  std::string path;                 // of the after-view; the root is empty
  std::optional<std::string> from;  // of the before-view
};

// Where a change belongs, by the renames of the directories above it.
struct ApplyPlace {
  size_t change = 0;
  std::string before;    // its path in the before-view
  bool in_new = false;   // in a directory that the changes make: the before-view has no such place
  bool gone = false;     // in what another change takes away: nothing is left to do
  bool vacated = false;  // what stood there is renamed away by an entry of its own
};

// The link groups of an index, each with the names of the before-view by which the target has the inode as
// the after-view does; none: it is to be made. Where a change moves such a name away, the target has it only
// if that is applied without force.
struct KeptName {
  std::string before;
  std::optional<size_t> change;
};
using KeptInodes = std::map<uint64_t, std::vector<KeptName>>;

// How the target differs from the before-view.
enum class ConflictReason : uint8_t {
  missing,   // nothing is there
  exists,    // something is, and the before-view has nothing
  type,      // of another type
  content,   // the same type with another content, or a directory that holds something else
  metadata,  // mode, owner or extended attributes
  parent,  // what leads there is missing or no directory, a symbolic link perhaps, or not where it should be
  mount,   // something is mounted there, or on the way
};
struct Conflict {
  size_t change = 0;
  ConflictReason reason = ConflictReason::missing;
  std::string path;  // in the target
  // Whether it can be applied all the same.
  bool forcible = true;
};

enum class ApplyDecision : uint8_t { apply, skip, force };

// What has been copied.
struct ApplyOutcome {
  std::vector<ApplyDecision> decisions;  // `skip` too where a directory above was skipped
  uint64_t bytes = 0;
  std::array<uint64_t, 4> methods{};  // files, by CopyMethod
  std::vector<std::pair<size_t, std::string>>
      dropped;                    // attributes that the target would not take, by change
  std::vector<std::string> left;  // directories in the target that hold what could not be removed
};
// What became of it where not all could be taken back.
struct ApplyFailure {
  SysError error;
  std::string path;             // in the target
  std::vector<size_t> applied;  // what is there nevertheless
  std::string left;             // the staging directory, where something that could not be put back lies
  std::optional<std::string> edited;  // what somebody has changed in the target since it was compared
  bool on_overlay = false;            // where the target lies
};

class Apply {
 public:
  // Opens the target, takes the target's lock (EWOULDBLOCK from "flock": another run has it), and
  // puts back or clears what a run that was killed has left.
  static Result<std::unique_ptr<Apply>> open(MergedLayers layers, const DirectoryRef& target);

  // Everything that is not as the before-view has it; nothing is changed.
  Result<std::vector<Conflict>> check(std::vector<ApplyChange> changes, const Cancel& cancel);
  // The same with `skip` for what is in a directory that is not made, or is to stand where something stays.
  std::vector<ApplyDecision> decide(std::vector<ApplyDecision> decisions) const;
  // What has been checked: all of it, or an error and nothing.
  std::variant<ApplyOutcome, ApplyFailure> run(std::vector<ApplyDecision> decisions, const Cancel& cancel);

  // How far it has got, for other threads: entries of this phase, and bytes of data that have been copied.
  enum class Phase : uint8_t { checking, copying, placing };
  std::atomic<Phase> phase{Phase::checking};
  std::atomic<uint64_t> entries_done{0}, bytes_done{0};
  const std::vector<std::string>& left() const { return left_; }  // by a run before

 private:
  friend class ApplyRun;
  Apply(MergedLayers layers, TargetTree target) : layers_(std::move(layers)), target_(std::move(target)) {}

  MergedLayers layers_;
  TargetTree target_;
  std::vector<std::string> left_;
  std::vector<ApplyChange> changes_;
  size_t given_ = 0;  // those after it are other names of their inodes
  KeptInodes inodes_;
  std::vector<ApplyPlace> places_;  // in the order of paths, parents first
};

}  // namespace overlayfs
