// What all the threads of one walk over an upper share, and how the entries that they meet stand to the
// lowers.
#pragma once

#include <atomic>
#include <ctime>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "change_record.h"
#include "merged_tree.h"
#include "ordered_work.h"
#include "renames.h"

namespace overlayfs {

enum class Compare { metadata, content, none };

struct ChangeOptions {
  Compare compare = Compare::metadata;
  bool in_order = true, renames = true, expand = false, dir_times = false;
  std::vector<std::string> include, exclude;  // paths: what lies there and below
  unsigned threads = 1;
};

struct ChangeContext {
  ChangeContext(MergedLayers layers, ChangeOptions chosen)
      : tree(std::move(layers)), options(std::move(chosen)), prefix(tree.layers().stack().xattr_prefix()) {}

  MergedTree tree;
  const ChangeOptions options;
  const std::string prefix;  // of the overlay's own attributes
  Renames renames;
  // Paths of lower files that have been changed under another of their names: they have no entry in the
  // upper.
  std::set<std::string> linked;
  std::atomic<bool> cancelled = false, changed_meanwhile = false;
  struct timespec started {};
  std::mutex working;  // for the next
  std::shared_ptr<OrderedWork> work;

  // Starts on a task in place of what was at work before; null: cancelled.
  Result<std::shared_ptr<OrderedWork>> start(std::unique_ptr<OrderedWork::Task> first, bool in_order);
  // The same for what has no changes to tell, to its end: only what could not be looked at.
  Result<std::vector<ChangeError>> run(std::unique_ptr<OrderedWork::Task> first);
  void cancel();

  const MergedLayers& layers() const { return tree.layers(); }
  std::string own(const char* name) const { return prefix + name; }
};

// A name in an upper directory, as far as it is looked at without its lowers.
struct UpperEntry {
  abi::Statx status{};
  std::string xattrs;  // the names of its attributes, each with its NUL
  bool is_whiteout = false;

  bool has(const std::string& xattr) const;
  bool is_directory() const;
};
// None: it is gone.
Result<std::optional<UpperEntry>> look_at_upper(const ChangeContext& context,
                                                const OpenTreeDirectory& directory, const std::string& name,
                                                bool wants_xattrs);

// What the before-view has under a name of a directory; nothing where that is not in the before-view.
Result<std::optional<MergedEntry>> look_before(const ChangeContext& context,
                                               const OpenTreeDirectory& directory, const std::string& name);
// The same by a path from the root.
Result<std::optional<MergedEntry>> look_before_at(const ChangeContext& context, const std::string& path);

// A directory of the upper, and how it stands to the lowers.
struct UpperDirectory {
  UpperEntry entry;
  std::optional<MergedEntry> here;  // what the before-view has at its place
  MergedDirectory lowers;           // what shows through
  std::optional<LayerEntry> base;   // the topmost of them
  std::optional<std::string> from;  // its path in the before-view, where a redirect makes that another
  std::optional<Refused> refused;
};
Result<void> place_directory(const ChangeContext& context, const TreeDirectory& parent,
                             const OpenTreeDirectory& open, const std::string& name,
                             UpperDirectory& directory);

}  // namespace overlayfs
