#include "change_task.h"

#include <algorithm>

#include "change_entry.h"
#include "name_list.h"
#include "status.h"

namespace overlayfs {
namespace {

constexpr size_t kNamesInOneTask = 1000, kMostPathBytes = size_t{1} << 20;

bool is_later(const abi::StatxTime& time, const struct timespec& than) {
  return time.sec != than.tv_sec ? time.sec > than.tv_sec : time.nsec > than.tv_nsec;
}

// What the tasks of one directory share.
struct Listing {
  std::shared_ptr<ChangeContext> context;
  TreeDirectoryPtr directory;
  NameList names;
  abi::StatxTime listed{};       // the upper directory's ctime before it was read
  std::atomic<size_t> left = 0;  // tasks
};

struct DirectoryTask final : OrderedWork::Task {
  DirectoryTask(std::shared_ptr<ChangeContext> context, TreeDirectoryPtr directory)
      : context_(std::move(context)), directory_(std::move(directory)) {}
  void run(OrderedWork::Pieces& pieces) override;

 private:
  Result<std::shared_ptr<Listing>> list(const OpenTreeDirectory& open, const OrderedWork::Pieces& pieces);
  void add_linked(const OpenTreeDirectory& open, NameList& names);

  std::shared_ptr<ChangeContext> context_;
  TreeDirectoryPtr directory_;
};

struct NamesTask final : OrderedWork::Task {
  NamesTask(std::shared_ptr<Listing> listing, size_t from)
      : NamesTask(std::move(listing), from, from + kNamesInOneTask) {}
  NamesTask(std::shared_ptr<Listing> listing, size_t from, size_t to)
      : listing_(std::move(listing)), from_(from), to_(std::min(to, listing_->names.size())) {}
  void run(OrderedWork::Pieces& pieces) override;

 private:
  std::shared_ptr<Listing> listing_;
  const size_t from_, to_;
};

void fail(ChangeContext& context, std::string path, SysError error, OrderedWork::Pieces& pieces) {
  if (error.err == ENOENT || error.err == ENOTDIR || error.err == ELOOP)
    context.changed_meanwhile = true;
  else
    pieces.records().errors.push_back({std::move(path), std::move(error), {}, ""});
}

void DirectoryTask::run(OrderedWork::Pieces& pieces) {
  auto open = context_->tree.open(directory_);
  if (!open) return fail(*context_, path_of(directory_), std::move(open).error(), pieces);
  if (directory_->parent == nullptr) ChangeEntries(*context_, directory_, *open, pieces).root();
  auto listing = list(**open, pieces);
  if (!listing) return fail(*context_, path_of(directory_), std::move(listing).error(), pieces);
  const size_t size = (*listing)->names.size();
  (*listing)->left = std::max<size_t>(1, (size + kNamesInOneTask - 1) / kNamesInOneTask);
  if (size <= kNamesInOneTask) {
    NamesTask(*listing, 0).run(pieces);
    return;
  }
  for (size_t at = 0; at < size; at += kNamesInOneTask) pieces.add(std::make_unique<NamesTask>(*listing, at));
}

Result<std::shared_ptr<Listing>> DirectoryTask::list(const OpenTreeDirectory& open,
                                                     const OrderedWork::Pieces& pieces) {
  auto listing = std::make_shared<Listing>();
  listing->context = context_;
  listing->directory = directory_;
  if (open.upper) {
    if (const auto status = TRY(status_of(open.upper->get(), {}))) listing->listed = status->ctime;
    // A whiteout or a file may stand for a whole directory that is gone.
    const bool all_below = context_->options.expand && !open.was.empty();
    TRY(listing->names.read(open.upper->get(), pieces, all_below));
  }
  if (directory_->role != TreeRole::merged) {
    TRY(listing->names.read(open.lowers, pieces));
    if (directory_->role == TreeRole::added) TRY(listing->names.read(open.was, pieces));
  }
  add_linked(open, listing->names);
  listing->names.sort(pieces);
  return listing;
}

// Names that only the index knows to be changed.
void DirectoryTask::add_linked(const OpenTreeDirectory& open, NameList& names) {
  const std::string prefix = open.path.empty() ? std::string() : open.path + '/';
  const auto& linked = context_->linked;
  for (auto at = linked.lower_bound(prefix); at != linked.end() && at->starts_with(prefix);) {
    const size_t slash = at->find('/', prefix.size());
    const bool directory = slash != std::string::npos;
    const std::string name = at->substr(prefix.size(), directory ? slash - prefix.size() : slash);
    names.add(name, directory);
    at = directory ? linked.lower_bound(prefix + name + '0') : std::next(at);  // '0' follows '/'
  }
}

void NamesTask::run(OrderedWork::Pieces& pieces) {
  ChangeContext& context = *listing_->context;
  auto open = context.tree.open(listing_->directory);
  if (!open) return fail(context, path_of(listing_->directory), std::move(open).error(), pieces);
  ChangeEntries entries(context, listing_->directory, *open, pieces);
  const NameList& names = listing_->names;
  // What lies below a directory comes behind names that sort in between.
  std::vector<std::pair<std::string_view, TreeDirectoryPtr>> below;
  std::string name;
  size_t bytes = 0;
  bool waits = false;
  for (size_t i = from_; i < to_ && !pieces.cancelled(); ++i) {
    // Each change has its whole path: where that is long, few are told at once, and none that would have to
    // wait for what lies below a directory.
    if (bytes > kMostPathBytes || waits) {
      ++listing_->left;
      pieces.add(std::make_unique<NamesTask>(listing_, i, to_));
      break;
    }
    const NameList::Item item = names[i];
    name.assign(item.name);
    bytes += (*open)->path.size();
    if (!item.subtree) {
      TreeDirectoryPtr directory = entries.look_at(name, false);
      if (item.directory)
        below.emplace_back(item.name, std::move(directory));
      else if (directory)
        context.changed_meanwhile = true;  // it was none when the names were read
      continue;
    }
    const auto known =
        std::find_if(below.rbegin(), below.rend(), [&](const auto& one) { return one.first == item.name; });
    TreeDirectoryPtr directory;
    if (known == below.rend()) {
      directory = entries.look_at(name, true);  // the task before told of it
    } else {
      directory = std::move(known->second);
      below.erase(std::next(known).base());
    }
    if (!directory) continue;
    pieces.add(std::make_unique<DirectoryTask>(listing_->context, std::move(directory)));
    waits = (*open)->path.size() > kLongPath;
  }
  if (--listing_->left > 0 || !(*open)->upper) return;
  // Nothing before this moment has been missed, unless the directory has changed since the walk began.
  auto status = status_of((*open)->upper->get(), {});
  if (!status || !*status) return;
  const abi::StatxTime& changed = (*status)->ctime;
  const bool same = changed.sec == listing_->listed.sec && changed.nsec == listing_->listed.nsec;
  if (!same || is_later(changed, context.started)) context.changed_meanwhile = true;
}

}  // namespace

std::unique_ptr<OrderedWork::Task> first_change_task(std::shared_ptr<ChangeContext> context) {
  TreeDirectoryPtr root = context->tree.root();
  return std::make_unique<DirectoryTask>(std::move(context), std::move(root));
}

}  // namespace overlayfs
