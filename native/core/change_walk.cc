#include "change_walk.h"

#include <fcntl.h>

#include "beneath.h"
#include "change_task.h"
#include "linked_names.h"

namespace overlayfs {

Result<std::shared_ptr<ChangeWalk>> ChangeWalk::open(const LayerStack& stack, ChangeOptions options) {
  MergedLayers layers = TRY(MergedLayers::open(stack));
  auto context = std::make_shared<ChangeContext>(std::move(layers), std::move(options));
  return std::shared_ptr<ChangeWalk>(new ChangeWalk(std::move(context)));
}

Result<void> ChangeWalk::start() {
  clock_gettime(CLOCK_REALTIME, &context_->started);
  if (context_->options.renames) TRY(context_->renames.find(*context_));
  LinkedNames linked = TRY(find_linked_names(*context_));
  scanned_lower_ = linked.scanned;
  failed_ = std::move(linked.failed);
  work_ = TRY(context_->start(first_change_task(context_), context_->options.in_order));
  return {};
}

Result<ChangeWalk::Batch> ChangeWalk::next() {
  if (!work_) TRY(start());
  OrderedWork::Batch taken = work_->take();
  if (context_->cancelled) {
    work_->wait_until_still();
    return SysError{ECANCELED, "getdents64", {}, {}, {}};
  }
  if (taken.ended) close_directories();
  auto& errors = taken.records.errors;
  errors.insert(errors.begin(), std::make_move_iterator(failed_.begin()),
                std::make_move_iterator(failed_.end()));
  failed_.clear();
  return Batch{std::move(taken.records), taken.ended, !context_->changed_meanwhile, scanned_lower_,
               context_->renames.cut()};
}

void ChangeWalk::end() {
  context_->cancel();
  close_directories();
}

void ChangeWalk::close_directories() {
  if (work_) work_->wait_until_still();
  context_->tree.close_idle();
}

Result<Fd> ChangeWalk::open_source(size_t layer, const std::string& path) const {
  const MergedLayers& layers = context_->layers();
  const auto& root = layer == kIndexLayer ? layers.work() : layers.root_of(layer);
  return open_beneath(root->get(), path, O_RDONLY | O_NONBLOCK);
}

}  // namespace overlayfs
