#include "merged_tree.h"

#include <fcntl.h>

#include <algorithm>

#include "beneath.h"
#include "recently_opened.h"
#include "status.h"
#include "sys.h"

namespace overlayfs {
namespace {

constexpr int kReadable = O_RDONLY | O_DIRECTORY | O_NOFOLLOW, kPlace = O_PATH | O_DIRECTORY | O_NOFOLLOW;

bool has_long_path(const TreeDirectory& directory) { return directory.longest_path > kLongPath; }

void append_name(std::string& path, std::string_view name) {
  if (!path.empty() && !name.empty()) path += '/';
  path.append(name);
}

// The paths of a directory in its layers, by their numbers.
using LayerPaths = std::vector<std::pair<size_t, std::string>>;

LayerPaths paths_below(LayerPaths& above, const std::vector<TreeDirectory::Lower>& lowers) {
  LayerPaths paths;
  for (const TreeDirectory::Lower& lower : lowers) {
    if (lower.rooted) {
      paths.emplace_back(lower.layer, lower.path);
      continue;
    }
    const auto parent =
        std::find_if(above.begin(), above.end(), [&](const auto& one) { return one.first == lower.layer; });
    paths.push_back(std::move(*parent));
    append_name(paths.back().second, lower.path);
  }
  return paths;
}

size_t descriptors_of(const OpenTreeDirectory& open) {
  return open.lowers.size() + open.was.size() + (open.upper ? 1 : 0);
}

// As one name in the directory above, where that is the same layer's.
TreeDirectory::Lower placed(const LayerDirectory& lower, const MergedDirectory& above) {
  const auto parent = std::find_if(above.begin(), above.end(),
                                   [&](const LayerDirectory& part) { return part.layer == lower.layer; });
  const bool is_root = parent != above.end() && parent->path.empty();
  const size_t start = parent == above.end() || is_root ? 0 : parent->path.size() + 1;
  const bool inside = parent != above.end() && lower.path.size() > start &&
                      (is_root || (lower.path.starts_with(parent->path) && lower.path[start - 1] == '/')) &&
                      lower.path.find('/', start) == std::string::npos;
  return {lower.layer, inside ? lower.path.substr(start) : lower.path, !inside, lower.xattr_whiteouts};
}

}  // namespace

std::string join_path(std::string_view directory, std::string_view name) {
  std::string path(directory);
  if (!path.empty() && !name.empty()) path += '/';
  return path.append(name);
}

std::string path_of(TreeDirectoryPtr directory) {
  std::vector<const std::string*> names;
  for (; directory->parent != nullptr; directory = directory->parent) names.push_back(&directory->name);
  std::string path;
  for (auto name = names.rbegin(); name != names.rend(); ++name) append_name(path, **name);
  return path.empty() ? "." : path;
}

TreeDirectory::~TreeDirectory() {
  TreeDirectoryPtr above = std::move(parent);
  while (above != nullptr && above.use_count() == 1) above = std::move(above->parent);
}

MergedTree::MergedTree(MergedLayers layers) : layers_(std::move(layers)), most_(descriptors_to_keep()) {
  auto root = std::make_shared<TreeDirectory>();
  root->has_upper = layers_.has_upper();
  root->has_before = root->before_rooted = true;
  for (const LayerDirectory& lower : layers_.root(1)) root->lowers.push_back({lower.layer, {}, true, false});
  root_ = std::move(root);
}

TreeDirectoryPtr MergedTree::child(const TreeDirectoryPtr& parent, const OpenTreeDirectory& open_parent,
                                   std::string name, TreeRole role, const abi::Statx* upper,
                                   const MergedDirectory& lowers, std::optional<std::string> before,
                                   const MergedDirectory& hidden) {
  auto made = std::make_shared<TreeDirectory>();
  made->parent = parent;
  made->role = role;
  made->has_upper = upper != nullptr;
  if (upper != nullptr) made->upper_inode = upper->ino;
  for (const LayerDirectory& lower : lowers) {
    if (lower.layer != 0)
      made->lowers.push_back(placed(lower, role == TreeRole::deleted ? open_parent.was : open_parent.lowers));
  }
  for (const LayerDirectory& lower : hidden) made->hidden.push_back(placed(lower, open_parent.was));
  made->has_before = role == TreeRole::added ? !made->hidden.empty() : !made->lowers.empty();
  made->before_rooted = before.has_value();
  made->before = before ? *std::move(before) : name;
  made->name = std::move(name);
  size_t longest = made->name.size(), rooted = made->before_rooted ? made->before.size() : 0;
  if (!made->before_rooted) longest = std::max(longest, made->before.size());
  for (const auto* parts : {&made->lowers, &made->hidden}) {
    for (const TreeDirectory::Lower& part : *parts) {
      size_t& most = part.rooted ? rooted : longest;
      most = std::max(most, part.path.size());
    }
  }
  made->longest_path = std::max(parent->longest_path + 1 + longest, rooted);
  return made;
}

Result<OpenTreeDirectoryPtr> MergedTree::open(const TreeDirectoryPtr& directory) {
  // From the nearest directory above that is open; a loop, since trees may be deeper than a thread's stack.
  std::vector<TreeDirectoryPtr> closed;
  OpenTreeDirectoryPtr open;
  for (TreeDirectoryPtr at = directory; at != nullptr && !(open = cached(at.get())); at = at->parent)
    closed.push_back(at);
  for (auto at = closed.rbegin(); at != closed.rend(); ++at) {
    auto opened = open_in(open.get(), **at);
    if (!opened && (opened.error().err == EMFILE || opened.error().err == ENFILE)) {
      close_idle();
      opened = open_in(open.get(), **at);
    }
    open = TRY(std::move(opened));
    keep(*at, open);
  }
  return has_long_path(*directory) ? with_paths(directory, open) : open;
}

// What open_in() leaves out of what has long paths, from the top down.
OpenTreeDirectoryPtr MergedTree::with_paths(const TreeDirectoryPtr& directory,
                                            const OpenTreeDirectoryPtr& open) {
  std::vector<const TreeDirectory*> chain;
  for (const TreeDirectory* at = directory.get(); at != nullptr; at = at->parent.get()) chain.push_back(at);
  auto whole = std::make_shared<OpenTreeDirectory>(*open);
  LayerPaths lowers, was;
  bool same = true;  // what was there is what the lowers have
  for (auto at = chain.rbegin(); at != chain.rend(); ++at) {
    const TreeDirectory& one = **at;
    append_name(whole->path, one.name);
    if (one.before_rooted) whole->before.clear();
    append_name(whole->before, one.before);
    LayerPaths hidden;
    if (!one.hidden.empty()) {
      LayerPaths above = same ? lowers : was;
      hidden = paths_below(above, one.hidden);
    }
    lowers = paths_below(one.role == TreeRole::deleted && !same ? was : lowers, one.lowers);
    was = std::move(hidden);
    same = one.role != TreeRole::added;
  }
  if (!whole->view.empty() && whole->upper) whole->view.front().path = whole->path;
  const size_t first = whole->upper ? 1 : 0;
  for (size_t i = 0; i < lowers.size(); ++i) {
    if (same) whole->was[i].path = lowers[i].second;
    whole->view[first + i].path = lowers[i].second;
    whole->lowers[i].path = std::move(lowers[i].second);
  }
  for (size_t i = 0; !same && i < was.size(); ++i) whole->was[i].path = std::move(was[i].second);
  return whole;
}

Result<OpenTreeDirectoryPtr> MergedTree::open_in(const OpenTreeDirectory* parent,
                                                 const TreeDirectory& directory) const {
  auto open = std::make_shared<OpenTreeDirectory>();
  const std::string& name = directory.name;
  const bool without_paths = has_long_path(directory);
  if (parent != nullptr && !without_paths) {
    open->path = join_path(parent->path, name);
    open->before = directory.before_rooted ? directory.before : join_path(parent->before, directory.before);
  }
  if (directory.has_upper) {
    const int above = parent == nullptr ? layers_.root_of(0)->get() : parent->upper->get();
    Fd upper(sys::openat(above, parent == nullptr ? "." : name.c_str(), kReadable));
    if (!upper) return failed("openat", "O_RDONLY | O_DIRECTORY | O_NOFOLLOW", open->path);
    if (parent != nullptr) {
      const auto status = TRY(status_of(upper.get(), {}));
      if (!status || status->ino != directory.upper_inode)
        return SysError{ENOENT, "openat", "another directory by now", open->path, {}};
    }
    open->upper = std::make_shared<const Fd>(std::move(upper));
    open->view.push_back({0, open->upper, open->path, false});
  }
  // What is deleted lies in what was there, as does what is hidden.
  const bool deleted = directory.role == TreeRole::deleted;
  const MergedDirectory* above = parent == nullptr ? nullptr : deleted ? &parent->was : &parent->lowers;
  for (const TreeDirectory::Lower& lower : directory.lowers) {
    open->lowers.push_back(TRY(open_lower(above, lower)));
    open->view.push_back(open->lowers.back());
  }
  if (directory.role != TreeRole::added) open->was = open->lowers;
  for (const TreeDirectory::Lower& lower : directory.hidden)
    open->was.push_back(TRY(open_lower(&parent->was, lower)));
  if (without_paths) {
    for (MergedDirectory* parts : {&open->view, &open->lowers, &open->was}) {
      for (LayerDirectory& part : *parts) part.path.clear();
    }
  }
  return OpenTreeDirectoryPtr(std::move(open));
}

Result<LayerDirectory> MergedTree::open_lower(const MergedDirectory* above,
                                              const TreeDirectory::Lower& lower) const {
  LayerDirectory part{lower.layer, nullptr, lower.path, lower.xattr_whiteouts};
  if (lower.rooted && lower.path.empty()) {
    part.fd = layers_.root_of(lower.layer);
    return part;
  }
  if (lower.rooted) {
    part.fd = std::make_shared<const Fd>(
        TRY(open_beneath(layers_.root_of(lower.layer)->get(), lower.path, kPlace)));
    return part;
  }
  const auto parent = std::find_if(above->begin(), above->end(),
                                   [&](const LayerDirectory& one) { return one.layer == lower.layer; });
  part.path = join_path(parent->path, lower.path);
  Fd opened(sys::openat(parent->fd->get(), lower.path.c_str(), kPlace));
  if (!opened) return failed("openat", "O_PATH | O_DIRECTORY | O_NOFOLLOW", part.path);
  part.fd = std::make_shared<const Fd>(std::move(opened));
  return part;
}

OpenTreeDirectoryPtr MergedTree::cached(const TreeDirectory* directory) {
  const std::scoped_lock lock(mutex_);
  const auto found = places_.find(directory);
  if (found == places_.end()) return nullptr;
  kept_.splice(kept_.begin(), kept_, found->second);
  return found->second->open;
}

void MergedTree::keep(const TreeDirectoryPtr& directory, const OpenTreeDirectoryPtr& open) {
  std::vector<Kept> dropped;  // closed when the lock is gone
  const std::scoped_lock lock(mutex_);
  if (places_.contains(directory.get())) return;
  kept_.push_front({directory, open});
  places_[directory.get()] = kept_.begin();
  descriptors_ += descriptors_of(*open);
  while (descriptors_ > most_ && kept_.size() > 1) {
    descriptors_ -= descriptors_of(*kept_.back().open);
    places_.erase(kept_.back().directory.get());
    dropped.push_back(std::move(kept_.back()));
    kept_.pop_back();
  }
}

void MergedTree::close_idle() {
  std::list<Kept> dropped;
  const std::scoped_lock lock(mutex_);
  dropped.swap(kept_);
  places_.clear();
  descriptors_ = 0;
}

}  // namespace overlayfs
