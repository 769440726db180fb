// Directories of a tree that is walked: each knows its name alone, and few are open at a time. With whole
// paths the memory that a tree takes would grow with the square of its depth.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <utility>

#include "fd.h"
#include "recently_opened.h"
#include "result.h"

namespace overlayfs {

struct TreePlace {
  TreePlace(std::shared_ptr<TreePlace> directory, std::string last)
      : above(std::move(directory)), name(std::move(last)) {}
  TreePlace(const TreePlace&) = delete;
  TreePlace& operator=(const TreePlace&) = delete;
  ~TreePlace();  // lets go of those above one by one: recursion would be as deep as the tree

  std::shared_ptr<TreePlace> above;  // none: the name is a path from the root
  const std::string name;
  std::weak_ptr<const Fd> opened;  // TreePlaces'
};
using TreePlacePtr = std::shared_ptr<TreePlace>;

// The path of a name in a directory; of the directory itself, where there is no name.
std::string path_in_tree(const TreePlace* directory, const std::string& name);

// Opens them, from the nearest directory above that is open. Several threads may ask at once.
class TreePlaces {
 public:
  using Open = Result<Fd> (*)(int root, const std::string& path, int flags);
  // `open_top` opens what has nothing above it; open_beneath() the rest.
  TreePlaces(int root, int flags, Open open_top) : root_(root), flags_(flags), open_top_(open_top) {}

  Result<std::shared_ptr<const Fd>> open(TreePlace& place);
  void keep(TreePlace& place, std::shared_ptr<const Fd> opened);

 private:
  const int root_, flags_;
  const Open open_top_;
  RecentlyOpened recently_opened_{descriptors_to_keep()};
  std::mutex mutex_;
};

}  // namespace overlayfs
