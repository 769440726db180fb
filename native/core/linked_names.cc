#include "linked_names.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "beneath.h"
#include "name_list.h"
#include "status.h"

namespace overlayfs {
namespace {

// Everything in a directory of the merged view.
class LinkedTask final : public OrderedWork::Task {
 public:
  LinkedTask(ChangeContext& context, TreeDirectoryPtr directory)
      : context_(context), directory_(std::move(directory)) {}

  void run(OrderedWork::Pieces& pieces) override {
    auto open = context_.tree.open(directory_);
    NameList names;
    if (!open || !names.read((*open)->lowers, pieces)) return;
    if ((*open)->upper && !names.read((*open)->upper->get(), pieces)) return;
    names.sort();
    for (size_t i = 0; i < names.size() && !pieces.cancelled(); ++i) {
      if (!names[i].subtree) look_at(**open, std::string(names[i].name), pieces);
    }
  }

 private:
  void look_at(const OpenTreeDirectory& open, const std::string& name, OrderedWork::Pieces& pieces) {
    auto entry = context_.layers().lookup(open.view, name);
    if (!entry || !entry->exists()) return;
    if (entry->is_directory()) {
      const LayerEntry& top = entry->found.front();
      const MergedDirectory parts = entry->directory();
      auto child = MergedTree::child(directory_, open, name, TreeRole::merged,
                                     top.layer() == 0 ? &top.status : nullptr, parts);
      pieces.add(std::make_unique<LinkedTask>(context_, std::move(child)));
    } else if (entry->index) {
      const std::scoped_lock lock(context_.working);
      context_.linked.insert(join_path(open.path, name));
    }
  }

  ChangeContext& context_;
  const TreeDirectoryPtr directory_;
};

}  // namespace

Result<bool> find_linked_names(ChangeContext& context) {
  if (!context.layers().reads_index()) return false;
  const Fd work = TRY(open_directory(*context.layers().stack().work));
  auto index = open_beneath(work.get(), "index", O_RDONLY | O_DIRECTORY);
  if (!index && index.error().err == ENOENT) return false;
  if (!index) return std::move(index).error();
  NameList names;
  const OrderedWork nothing(false);
  TRY(names.read(index->get(), OrderedWork::Pieces(nothing)));
  names.sort();
  bool files = false;
  for (size_t i = 0; i < names.size() && !files; ++i) {
    const auto status = TRY(status_of(index->get(), std::string(names[i].name)));
    files = status && !S_ISDIR(status->mode) &&
            !(S_ISCHR(status->mode) && status->rdev_major == 0 && status->rdev_minor == 0);
  }
  if (!files) return false;
  TRY(context.run(std::make_unique<LinkedTask>(context, context.tree.root())));
  return true;
}

}  // namespace overlayfs
