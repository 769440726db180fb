#include "apply_target.h"

#include <fcntl.h>
#include <sys/file.h>

#include <algorithm>

#include "beneath.h"
#include "mount_info.h"
#include "proc.h"
#include "sys.h"
#include "tree_path.h"

namespace overlayfs {

bool is_below(const std::string& path, const std::string& directory) {
  if (directory.empty()) return !path.empty();
  return path.size() > directory.size() && path.starts_with(directory) && path[directory.size()] == '/';
}

Result<TargetTree> TargetTree::open(const DirectoryRef& ref) {
  TargetTree tree;
  const Fd path = TRY(open_directory(ref));
  tree.root_ = TRY(reopen_readable(path.get(), ref.shown()));
  tree.identity_ = TRY(identify(tree.root_.get(), ref.shown()));
  if (sys::flock(tree.root_.get(), LOCK_EX | LOCK_NB) != 0) return failed("flock", "LOCK_EX", ref.shown());
  const std::string name = canonical_path(tree.root_.get());
  for (const std::string& point : TRY(mounts_below({name}))) {
    if (is_below(point, name == "/" ? "" : name))
      tree.mounts_.push_back(point.substr(name == "/" ? 1 : name.size() + 1));
  }
  return tree;
}

Result<int> TargetTree::directory(const std::string& path) {
  if (path.empty()) return root_.get();
  if (!last_ || last_path_ != path) {
    last_ = TRY(open_beneath(root_.get(), path, O_PATH | O_DIRECTORY));
    last_path_ = path;
  }
  return last_.get();
}

Result<Fd> TargetTree::entry(const std::string& path) {
  if (path.empty()) return open_beneath(root_.get(), path, O_PATH | O_DIRECTORY);
  return open_beneath(TRY(directory(parent_of(path))), name_of(path), O_PATH);
}

bool TargetTree::holds_mount(const std::string& path) const {
  return std::any_of(mounts_.begin(), mounts_.end(),
                     [&](const std::string& mount) { return mount == path || is_below(mount, path); });
}

}  // namespace overlayfs
