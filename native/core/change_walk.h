// What an upper changes over its lowers, told in time that follows what has changed.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "change_context.h"
#include "layer_stack.h"

namespace overlayfs {

class ChangeWalk {
 public:
  static Result<std::shared_ptr<ChangeWalk>> open(const LayerStack& stack, ChangeOptions options);
  ~ChangeWalk() { cancel(); }
  ChangeWalk(const ChangeWalk&) = delete;
  ChangeWalk& operator=(const ChangeWalk&) = delete;

  struct Batch {
    ChangeRecords records;
    bool ended = false;
    // Of the walk so far.
    bool consistent = true, scanned_lower = false, renames_cut = false;
  };
  // Waits for the next changes; the first also for the renames. ECANCELED after cancel().
  Result<Batch> next();
  // From any thread: the walk ends within milliseconds.
  void cancel() { context_->cancel(); }

  // Ends the walk and waits until nothing is open but the layers themselves. Not while next() runs.
  void end();

  const MergedLayers& layers() const { return context_->layers(); }
  // What a change's source names, for reading.
  Result<Fd> open_source(size_t layer, const std::string& path) const;

 private:
  explicit ChangeWalk(std::shared_ptr<ChangeContext> context) : context_(std::move(context)) {}
  Result<void> start();
  void close_directories();

  std::shared_ptr<ChangeContext> context_;  // the threads have it too
  std::shared_ptr<OrderedWork> work_;
  bool scanned_lower_ = false;
  std::vector<ChangeError> failed_;  // before the first change
};

}  // namespace overlayfs
