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
    if (!open) return fail(path_of(directory_), std::move(open).error(), pieces);
    NameList names;
    auto read = names.read((*open)->lowers, pieces);
    if (read && (*open)->upper) read = names.read((*open)->upper->get(), pieces);
    if (!read) return fail((*open)->path, std::move(read).error(), pieces);
    names.sort(pieces);
    for (size_t i = 0; i < names.size() && !pieces.cancelled(); ++i) {
      if (!names[i].subtree) look_at(**open, std::string(names[i].name), pieces);
    }
  }

 private:
  void look_at(const OpenTreeDirectory& open, const std::string& name, OrderedWork::Pieces& pieces) {
    auto entry = context_.layers().lookup(open.view, name);
    if (!entry) return fail(join_path(open.path, name), std::move(entry).error(), pieces);
    // What is refused without the index too is in neither view.
    if (entry->refused && entry->refused->layer == kIndexLayer)
      pieces.records().errors.push_back({join_path(open.path, name), {}, entry->refused, ""});
    if (!entry->exists()) return;
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

  void fail(std::string path, SysError error, OrderedWork::Pieces& pieces) {
    if (error.err == ENOENT)
      context_.changed_meanwhile = true;
    else
      pieces.records().errors.push_back({path.empty() ? "." : std::move(path), std::move(error), {}, ""});
  }

  ChangeContext& context_;
  const TreeDirectoryPtr directory_;
};

}  // namespace

Result<LinkedNames> find_linked_names(ChangeContext& context) {
  if (!context.layers().reads_index()) return LinkedNames{};
  const Fd& work = *context.layers().work();
  auto index = open_beneath(work.get(), "index", O_RDONLY | O_DIRECTORY);
  if (!index && index.error().err == ENOENT) return LinkedNames{};
  if (!index) return std::move(index).error();
  NameList names;
  const OrderedWork nothing(false);
  TRY(names.read(index->get(), OrderedWork::Pieces(nothing)));
  names.sort(OrderedWork::Pieces(nothing));
  bool files = false;
  for (size_t i = 0; i < names.size() && !files && !context.cancelled; ++i) {
    const auto status = TRY(status_of(index->get(), std::string(names[i].name)));
    files = status && !S_ISDIR(status->mode) &&
            !(S_ISCHR(status->mode) && status->rdev_major == 0 && status->rdev_minor == 0);
  }
  if (!files) return LinkedNames{};
  return LinkedNames{true, TRY(context.run(std::make_unique<LinkedTask>(context, context.tree.root())))};
}

}  // namespace overlayfs
