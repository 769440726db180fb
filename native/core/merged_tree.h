// Directories of a merged view while a tree is walked: each remembers where it lies in the layers, and is
// opened from its parent, one name at a time. However deep the tree, few are open at once.
#pragma once

#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "merged_lookup.h"

namespace overlayfs {

// Where paths are longer they would add up: directories are as many as a tree is deep.
inline constexpr size_t kLongPath = 4096;

struct TreeDirectory;
using TreeDirectoryPtr = std::shared_ptr<const TreeDirectory>;

// What the lowers are to a directory.
enum class TreeRole {
  merged,   // they show through; without any, the directory is the upper's alone
  added,    // they show through, and everything is new here
  deleted,  // they are all that it was
};

struct TreeDirectory {
  TreeDirectory() = default;
  TreeDirectory(const TreeDirectory&) = delete;
  TreeDirectory& operator=(const TreeDirectory&) = delete;
  ~TreeDirectory();  // lets go of those above one by one: recursion would be as deep as the tree

  struct Lower {
    size_t layer;
    std::string path;  // one name in the parent's directory of that layer, or
    bool rooted;       // the path from the layer's root
    bool xattr_whiteouts;
  };
  mutable TreeDirectoryPtr parent;
  std::string name;
  TreeRole role = TreeRole::merged;
  bool has_upper = false;
  uint64_t upper_inode = 0;  // to know it again
  std::vector<Lower> lowers;
  std::vector<Lower> hidden;  // of one that is new: what it hides, where that is to be told
  // Where it is in the before-view, where it is there: one name in the parent's place, or from the root.
  bool has_before = false, before_rooted = false;
  std::string before;
  size_t longest_path = 0;  // no path of it is longer
};

// One that is open. Those that are kept open have no paths where these are long: whoever asks gets them.
struct OpenTreeDirectory {
  std::shared_ptr<const Fd> upper;  // readable; null: there is none
  MergedDirectory view;             // with the upper, where there is one
  MergedDirectory lowers;
  MergedDirectory was;       // what the before-view has in its place
  std::string path, before;  // from the root, without a leading slash
};
using OpenTreeDirectoryPtr = std::shared_ptr<const OpenTreeDirectory>;

class MergedTree {
 public:
  explicit MergedTree(MergedLayers layers);

  const MergedLayers& layers() const { return layers_; }
  TreeDirectoryPtr root() const { return root_; }
  // A directory in another; its place in the before-view is the same unless `before` says where it was.
  static TreeDirectoryPtr child(const TreeDirectoryPtr& parent, const OpenTreeDirectory& open_parent,
                                std::string name, TreeRole role, const abi::Statx* upper,
                                const MergedDirectory& lowers, std::optional<std::string> before = {},
                                const MergedDirectory& hidden = {});

  // ENOENT: it is not the same directory any more.
  Result<OpenTreeDirectoryPtr> open(const TreeDirectoryPtr& directory);
  // Closes what is not in use, for want of descriptors.
  void close_idle();

 private:
  Result<LayerDirectory> open_lower(const MergedDirectory* above, const TreeDirectory::Lower& lower) const;
  Result<OpenTreeDirectoryPtr> open_in(const OpenTreeDirectory* parent, const TreeDirectory& directory) const;
  static OpenTreeDirectoryPtr with_paths(const TreeDirectoryPtr& directory, const OpenTreeDirectoryPtr& open);
  OpenTreeDirectoryPtr cached(const TreeDirectory* directory);
  void keep(const TreeDirectoryPtr& directory, const OpenTreeDirectoryPtr& open);

  struct Kept {
    TreeDirectoryPtr directory;
    OpenTreeDirectoryPtr open;
  };
  MergedLayers layers_;
  TreeDirectoryPtr root_;
  size_t most_;  // descriptors
  std::mutex mutex_;
  std::list<Kept> kept_;  // the last used first
  std::unordered_map<const TreeDirectory*, std::list<Kept>::iterator> places_;
  size_t descriptors_ = 0;
};

std::string join_path(std::string_view directory, std::string_view name);
// From the root, which is `.`.
std::string path_of(TreeDirectoryPtr directory);

}  // namespace overlayfs
