// What a run of applyChanges() leaves in its target for whoever comes after it: the directory that it works
// in, and a record there of what it takes out.
#pragma once

#include <string>
#include <vector>

#include "apply_target.h"
#include "result.h"

namespace overlayfs {

// In the target's root: at work; done, and to be removed; and what could not be put back, which is never
// touched again.
constexpr const char *kAtWork = "#overlayfs-apply", *kDone = "#overlayfs-applied", *kLeft = "#overlayfs-left";

// A name that only we may have in the root of a target, or something in there.
bool is_reserved(const std::string& path);

// Something that will be taken out of the target, and where it stands when all is done: for whoever clears up
// after a run that was killed.
struct Taking {
  std::string staged;         // its name in the staging directory
  std::string before, after;  // in the target
  bool moves = false;         // it will stand there: its staged name says so too
};
// What names in the staging directory begin with: what was copied, what is another name of an inode that the
// target has, what changes its place in the target, and what leaves it.
constexpr char kNew = 'n', kLinked = 'l', kMoved = 'm', kGone = 'd';

// Adds to the record in a staging directory.
Result<void> record_takings(int staging, const std::vector<Taking>& takings);

// Puts back what a killed run has taken out of the target, and removes the rest.
// EEXIST from "renameat2": it has no place any more; from "mkdirat": what has our name is not ours. What a
// finished run has left and cannot be removed gets a name that nobody clears, which is added to `left`.
Result<void> recover_target(TargetTree& target, std::vector<std::string>& left);

// A directory of ours under one of these names: made, removed, and given a name that no run ever clears (the
// same one, if that cannot be).
Result<void> make_ours(int parent, const char* name);
Result<void> remove_ours(int parent, const std::string& name);
std::string set_aside(int parent, const char* name);

}  // namespace overlayfs
