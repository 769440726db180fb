#include "tree_place.h"

#include <vector>

#include "beneath.h"

namespace overlayfs {

TreePlace::~TreePlace() {
  TreePlacePtr at = std::move(above);
  while (at != nullptr && at.use_count() == 1) at = std::move(at->above);
}

std::string path_in_tree(const TreePlace* directory, const std::string& name) {
  std::vector<const std::string*> names{&name};
  size_t size = name.size();
  for (const TreePlace* at = directory; at != nullptr; at = at->above.get()) {
    names.push_back(&at->name);
    size += at->name.size() + 1;
  }
  std::string path;
  path.reserve(size);
  for (auto one = names.rbegin(); one != names.rend(); ++one) {
    if (!path.empty() && !(*one)->empty()) path += '/';
    path += **one;
  }
  return path;
}

Result<std::shared_ptr<const Fd>> TreePlaces::open(TreePlace& place) {
  std::vector<TreePlace*> closed;
  std::shared_ptr<const Fd> opened;
  {
    const std::lock_guard lock(mutex_);
    for (TreePlace* at = &place; at != nullptr && !(opened = at->opened.lock()); at = at->above.get())
      closed.push_back(at);
  }
  for (auto at = closed.rbegin(); at != closed.rend(); ++at) {
    const std::string& name = (*at)->name;
    Fd below = TRY(opened ? open_beneath(opened->get(), name, flags_) : open_top_(root_, name, flags_));
    opened = std::make_shared<const Fd>(std::move(below));
    keep(**at, opened);
  }
  return opened;
}

void TreePlaces::keep(TreePlace& place, std::shared_ptr<const Fd> opened) {
  {
    const std::lock_guard lock(mutex_);
    place.opened = opened;
  }
  recently_opened_.keep(std::move(opened), 1);
}

}  // namespace overlayfs
