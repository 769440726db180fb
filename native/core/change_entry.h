// One name of a directory: what became of it.
#pragma once

#include <memory>

#include "change_context.h"

namespace overlayfs {

// Tells the changes of the names of one directory, and which directories below it have some too.
class ChangeEntries {
 public:
  ChangeEntries(ChangeContext& context, TreeDirectoryPtr directory, OpenTreeDirectoryPtr open,
                OrderedWork::Pieces& pieces)
      : context_(context), directory_(std::move(directory)), open_(std::move(open)), pieces_(pieces) {}

  // The root of the view.
  void root();
  // A name; the directory to go on with below it, or none. Told twice of one name (`again`) it says no more
  // than that.
  TreeDirectoryPtr look_at(const std::string& name, bool again);

 private:
  Result<TreeDirectoryPtr> entry(const std::string& name);
  Result<TreeDirectoryPtr> upper_directory(const std::string& name, UpperEntry entry);
  Result<TreeDirectoryPtr> upper_file(const std::string& name, const UpperEntry& entry);
  Result<TreeDirectoryPtr> gone(const std::string& name);
  TreeDirectoryPtr gone_below(const std::string& name, const MergedEntry& before);
  Result<TreeDirectoryPtr> added(const std::string& name);
  Result<void> linked(const std::string& name);
  Result<TreeDirectoryPtr> way_to_linked(const std::string& name);

  struct Compared;
  Result<Compared> compare(const std::string& name, const abi::Statx& status, int directory,
                           std::string_view xattrs, const LayerEntry& before, const LayerEntry& before_data,
                           const LayerEntry* moved_data) const;
  bool check_foreign(const std::string& name, const UpperEntry& entry);

  TreeDirectoryPtr child(const std::string& name, TreeRole role, const abi::Statx* upper,
                         const MergedDirectory& lowers, std::optional<std::string> before = {});
  void emit(Change& change);
  void report(SysError error, std::optional<Refused> refused = {}, const char* artefact = "");
  std::string before_path(const std::string& name) const { return join_path(open_->before, name); }

  ChangeContext& context_;
  const TreeDirectoryPtr directory_;
  const OpenTreeDirectoryPtr open_;
  OrderedWork::Pieces& pieces_;
  std::string path_;  // of the name at hand
  bool again_ = false;
};

}  // namespace overlayfs
