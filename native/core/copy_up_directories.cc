#include <fcntl.h>

#include <algorithm>

#include "beneath.h"
#include "copy_up.h"
#include "sys.h"

namespace overlayfs {

CopyUp::Directory::~Directory() {
  DirectoryPtr above = std::move(parent);
  while (above != nullptr && above.use_count() == 1) above = std::move(above->parent);
}

CopyUp::DirectoryPtr CopyUp::known_directory(const Directory* parent, const std::string& name) {
  const std::lock_guard lock(resolving_);
  const auto known = directories_.find({parent, name});
  return known == directories_.end() ? nullptr : known->second;
}

Result<CopyUp::DirectoryPtr> CopyUp::root() {
  const std::lock_guard lock(resolving_);
  if (root_) return root_;
  auto made = std::make_shared<Directory>();
  const int upper = layers_.root_of(0)->get();
  if (sys::fstatat(upper, "", &made->times, AT_EMPTY_PATH) != 0) return failed("fstatat");
  made->in_upper = true;
  return root_ = std::move(made);
}

// From the top down, name by name: a path may be longer than what a stack of calls would take.
Result<CopyUp::DirectoryPtr> CopyUp::directory(const std::string& path) {
  DirectoryPtr at = TRY(root());
  for (size_t start = 0; start < path.size();) {
    const size_t end = std::min(path.find('/', start), path.size());
    const std::string name = path.substr(start, end - start);
    DirectoryPtr next = known_directory(at.get(), name);
    if (!next) {
      const OpenDirectory parent = TRY(opened(*at));
      const MergedEntry entry = TRY(layers_.lookup(*parent, name));
      if (entry.refused) return refused_error(*entry.refused);
      if (!entry.exists()) return SysError{ENOENT, "lookup", {}, {}, {}};
      if (!entry.is_directory()) return SysError{ENOTDIR, "lookup", {}, {}, {}};
      next = TRY(child(at, *parent, name, entry));
    }
    at = std::move(next);
    start = end + 1;
  }
  return at;
}

// One object for each directory, whichever thread comes first.
Result<CopyUp::DirectoryPtr> CopyUp::child(const DirectoryPtr& parent, const MergedDirectory& open_parent,
                                           const std::string& name, const MergedEntry& entry) {
  const std::lock_guard lock(resolving_);
  if (const auto known = directories_.find({parent.get(), name}); known != directories_.end())
    return known->second;
  if (directories_.size() >= most_directories_) forget_idle_directories();
  auto made = std::make_shared<Directory>();
  made->parent = parent;
  made->name = name;
  auto open = std::make_shared<MergedDirectory>();
  for (const LayerEntry& found : entry.found) {
    if (found.form != EntryForm::directory) continue;
    const bool inside = std::any_of(open_parent.begin(), open_parent.end(), [&](const LayerDirectory& part) {
      return part.layer == found.layer() && part.fd == found.parent.fd;
    });
    const bool whiteouts = found.opaque == Opaque::whiteouts;
    made->parts.push_back({found.layer(), inside ? found.name : found.path(), !inside, whiteouts});
    open->push_back({found.layer(), found.fd, {}, whiteouts});
  }
  if (open->front().layer == 0) {
    if (sys::fstatat(open->front().fd->get(), "", &made->times, AT_EMPTY_PATH) != 0) return failed("fstatat");
    made->in_upper = true;
    made->upper_inode = made->times.st_ino;
    made->upper = open->front().fd;
  }
  made->merged = open;
  recent_merged_.keep(open, open->size());
  directories_.emplace(std::pair(parent.get(), name), made);
  return made;
}

// With the lock. Those above one that goes may be idle then too.
void CopyUp::forget_idle_directories() {
  std::vector<DirectoryPtr> idle;
  for (const auto& [place, known] : directories_) {
    if (known.use_count() == 1) idle.push_back(known);
  }
  for (DirectoryPtr& at : idle) {
    while (at->parent != nullptr && at.use_count() == 2) {
      directories_.erase({at->parent.get(), at->name});
      DirectoryPtr above = at->parent;
      at = std::move(above);
    }
  }
  most_directories_ = std::max(most_directories_, 2 * directories_.size());
}

// From the nearest directory above that is open.
Result<CopyUp::OpenDirectory> CopyUp::opened(Directory& directory) {
  const auto still_open = [this](const Directory& one) {
    const std::lock_guard lock(resolving_);
    return one.merged.lock();
  };
  std::vector<Directory*> closed;
  OpenDirectory open;
  for (Directory* at = &directory; at != nullptr && !(open = still_open(*at)); at = at->parent.get())
    closed.push_back(at);
  for (auto at = closed.rbegin(); at != closed.rend(); ++at) {
    open =
        (*at)->parent ? TRY(open_in(*open, **at)) : std::make_shared<const MergedDirectory>(layers_.root());
    recent_merged_.keep(open, (*at)->parts.size());
    const std::lock_guard lock(resolving_);
    (*at)->merged = open;
  }
  return open;
}

Result<CopyUp::OpenDirectory> CopyUp::open_in(const MergedDirectory& parent,
                                              const Directory& directory) const {
  auto open = std::make_shared<MergedDirectory>();
  for (const Directory::Part& part : directory.parts) {
    const auto above = std::find_if(parent.begin(), parent.end(),
                                    [&](const LayerDirectory& one) { return one.layer == part.layer; });
    const int from = (part.rooted ? layers_.root_of(part.layer) : above->fd)->get();
    Fd opened = TRY(open_beneath(from, part.path, O_PATH | O_DIRECTORY));
    open->push_back({part.layer, std::make_shared<const Fd>(std::move(opened)), {}, part.xattr_whiteouts});
  }
  return OpenDirectory(std::move(open));
}

// What it has in the upper, where ensure_upper() has seen that there is something.
Result<std::shared_ptr<const Fd>> CopyUp::upper_of(Directory& directory) {
  const auto still_open = [this](const Directory& one) {
    const std::lock_guard lock(resolving_);
    return one.parent ? one.upper.lock() : layers_.root_of(0);
  };
  std::vector<Directory*> closed;
  std::shared_ptr<const Fd> open;
  for (Directory* at = &directory; !(open = still_open(*at)); at = at->parent.get()) closed.push_back(at);
  for (auto at = closed.rbegin(); at != closed.rend(); ++at) {
    Fd opened = TRY(open_beneath(open->get(), (*at)->name, O_PATH | O_DIRECTORY));
    struct stat st {};
    if (sys::fstatat(opened.get(), "", &st, AT_EMPTY_PATH) != 0) return failed("fstatat");
    if (st.st_ino != (*at)->upper_inode)
      return SysError{ESTALE, "fstatat", "another directory by now", {}, {}};
    open = std::make_shared<const Fd>(std::move(opened));
    recent_uppers_.keep(open, 1);
    const std::lock_guard lock(resolving_);
    (*at)->upper = open;
  }
  return open;
}

}  // namespace overlayfs
