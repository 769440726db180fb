#include "copy_up.h"

#include <fcntl.h>
#include <linux/capability.h>

#include <algorithm>
#include <chrono>
#include <set>

#include "features.h"
#include "layer_check.h"
#include "proc.h"
#include "sys.h"
#include "thread.h"

namespace overlayfs {
namespace {

using std::chrono::steady_clock;
constexpr auto kLongestTurn = std::chrono::seconds(2);
constexpr size_t kMostResults = 16384,
                 kMostResultBytes = size_t{4} << 20;  // of their paths, which may be long

Result<OpenLayer> open_identified(const DirectoryRef& ref) {
  OpenLayer layer{TRY(open_directory(ref)), ref.shown(), {}};
  layer.identity = TRY(identify(layer.fd.get(), layer.path));
  return layer;
}

}  // namespace

// What the threads of one next() share.
struct CopyUp::Turn {
  const Cancel& cancel;
  steady_clock::time_point end;
  CopyUpBatch batch{};
  size_t bytes = 0;    // of the paths in the batch
  size_t active = 0;   // tasks that have been taken and are not finished
  size_t waiting = 0;  // threads that wait for another task
  size_t helpers = 0;  // threads that have not ended
};

CopyUp::CopyUp(MergedLayers layers, CopyUpOrder order)
    : layers_(std::move(layers)), order_(std::move(order)) {
  if (!order_.progress) order_.progress = std::make_shared<ProgressCounts>();
  for (std::string& path : order_.paths)
    tasks_.push_back({.order = ordered_++, .name = std::move(path), .parent = {}, .list = {}});
}

Result<std::shared_ptr<CopyUp>> CopyUp::open(const LayerStack& stack, CopyUpOrder order,
                                             CopyUpRefusal* refusal) {
  *refusal = CopyUpRefusal::open_layer;
  auto opened = std::shared_ptr<CopyUp>(new CopyUp(TRY(MergedLayers::open(stack)), std::move(order)));
  TRY(opened->prepare(refusal));
  return opened;
}

Result<void> CopyUp::prepare(CopyUpRefusal* refusal) {
  const LayerStack& stack = layers_.stack();
  const OpenLayer layer = TRY(open_identified(*stack.upper));
  const int upper = layers_.root_of(0)->get();
  std::optional<OpenLayer> work;
  if (stack.work) {
    work = TRY(open_identified(*stack.work));
    *refusal = CopyUpRefusal::work_on_other_mount;
    if (layer.identity.mount_id != work->identity.mount_id)
      return SysError{EXDEV, "statx", {}, work->path, {}};
    *refusal = CopyUpRefusal::work_not_separate;
    if (!TRY(are_separate(layer, *work))) return SysError{EINVAL, "statx", {}, work->path, {}};
    *refusal = CopyUpRefusal::work_locked;
    lock_ = TRY(lock_work_directory(*work));
  }
  TRY(check_in_use(layer, work ? &*work : nullptr, refusal));

  *refusal = CopyUpRefusal::has_index;
  struct stat st {};
  if (work && sys::fstatat(work->fd.get(), "index", &st, AT_SYMLINK_NOFOLLOW) == 0)
    return SysError{EEXIST, "fstatat", "\"index\"", work->path, {}};
  *refusal = CopyUpRefusal::work_needed;
  // Only an index ties an upper to its lower.
  if (!work && TRY(xattr_of(upper, layers_.xattr("origin"))))
    return SysError{ENOENT, "getxattr", layers_.xattr("origin"), stack.upper->shown(), {}};

  *refusal = CopyUpRefusal::open_layer;
  upper_for_sync_ = TRY(reopen_readable(upper, stack.upper->shown()));
  for (size_t layer = 0; layer <= layers_.lowers(); ++layer)
    uuids_.push_back(TRY(file_system_uuid(layers_.root_of(layer)->get())));
  // ovl_can_decode_fh()
  decodes_handles_ = in_initial_user_namespace() && has_capability(CAP_DAC_READ_SEARCH);
  *refusal = CopyUpRefusal::unwritable;
  auto staging = work ? CopyUpStaging::in_work(work->fd.get()) : CopyUpStaging::in_upper(upper);
  if (!staging && staging.error().err == EWOULDBLOCK) *refusal = CopyUpRefusal::work_locked;
  staging_.emplace(TRY(std::move(staging)));
  *refusal = CopyUpRefusal::none;
  return {};
}

Result<void> CopyUp::check_in_use(const OpenLayer& upper, const OpenLayer* work, CopyUpRefusal* refusal) {
  in_use_ = {InUse::unknown, "inside a user namespace the kernel does not tell"};
  if (!order_.can_tell_in_use) return {};
  // Where the kernel lacks a rung, the next one may still be able to ask.
  for (const Rung rung : order_.rungs) {
    in_use_ = work != nullptr ? probe_in_use(upper, *work, rung, order_.detached_layers)
                              : probe_in_use(upper, rung, order_.detached_layers);
    if (in_use_.answer != InUse::unknown) break;
  }
  if (in_use_.answer != InUse::upper && in_use_.answer != InUse::work) return {};
  const bool is_upper = work == nullptr || in_use_.answer == InUse::upper;
  *refusal = is_upper ? CopyUpRefusal::upper_in_use : CopyUpRefusal::work_in_use;
  return SysError{EBUSY, "fsconfig", "CMD_CREATE, index=on", is_upper ? upper.path : work->path, {}};
}

CopyUpBatch CopyUp::next(const Cancel& cancel) {
  Turn turn{.cancel = cancel, .end = steady_clock::now() + kLongestTurn};
  const size_t useful = order_.recursive ? order_.threads : std::min(order_.threads, tasks_.size());
  for (size_t i = 1; i < useful; ++i) {
    {
      const std::lock_guard lock(mutex_);
      ++turn.helpers;
    }
    const auto help = [this, &turn] {
      work(turn);
      const std::lock_guard lock(mutex_);
      --turn.helpers;
      changed_.notify_all();
    };
    if (start_thread(help, false) != 0) {  // fewer will do
      const std::lock_guard lock(mutex_);
      --turn.helpers;
      break;
    }
  }
  work(turn);
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return turn.helpers == 0; });

  const bool wrote = std::any_of(turn.batch.results.begin(), turn.batch.results.end(),
                                 [](const CopyUpResult& result) { return result.data.has_value(); });
  if (wrote && sys::syncfs(upper_for_sync_.get()) != 0) {
    turn.batch.results.clear();  // nothing that is not durable is said to have been done
    turn.batch.error = failed("syncfs", {}, layers_.stack().upper->shown());
  }
  std::sort(turn.batch.results.begin(), turn.batch.results.end(),
            [](const CopyUpResult& a, const CopyUpResult& b) { return a.order < b.order; });
  turn.batch.more = !turn.batch.error && !tasks_.empty();
  return std::move(turn.batch);
}

void CopyUp::work(Turn& turn) {
  while (auto task = take(turn)) {
    CopyUpRefusal refusal = CopyUpRefusal::none;
    if (task->list != nullptr) {
      auto listed = list(task->list);
      finish(turn, *task, listed ? Result(std::optional<CopyUpResult>()) : std::move(listed).error(),
             refusal);
    } else {
      auto outcome = carry_out(*task, turn.cancel, &refusal);
      finish(turn, *task, std::move(outcome), refusal);
    }
  }
}

void CopyUp::finish(Turn& turn, const Task& task, Result<std::optional<CopyUpResult>> outcome,
                    CopyUpRefusal refusal) {
  const std::lock_guard lock(mutex_);
  --turn.active;
  if (!outcome && !turn.batch.error) {
    turn.batch.error = std::move(outcome).error();
    turn.batch.error->path = path_of(task);
    turn.batch.refusal = refusal;
  } else if (outcome && outcome->has_value()) {
    turn.bytes += (*outcome)->path.size();
    turn.batch.results.push_back(**std::move(outcome));
    order_.progress->entries.fetch_add(1, std::memory_order_relaxed);
  }
  if (turn.waiting > 0) changed_.notify_all();
}

std::optional<CopyUp::Task> CopyUp::take(Turn& turn) {
  std::unique_lock lock(mutex_);
  while (true) {
    if (turn.batch.error) return std::nullopt;
    if (cancelled(turn.cancel)) {
      turn.batch.error = SysError{ECANCELED, "abort", {}, {}, {}};
      return std::nullopt;
    }
    const bool full =
        turn.batch.results.size() + turn.active >= kMostResults || turn.bytes >= kMostResultBytes;
    if (full || steady_clock::now() >= turn.end) return std::nullopt;
    if (!tasks_.empty()) {
      Task task = std::move(tasks_.front());
      tasks_.pop_front();
      ++turn.active;
      return task;
    }
    if (turn.active == 0) return std::nullopt;
    ++turn.waiting;
    changed_.wait(lock);
    --turn.waiting;
  }
}

// What the lowers have below a directory; what of it shows, the look-up of each name tells.
Result<void> CopyUp::list(const DirectoryPtr& directory) {
  std::set<std::string> names;
  const auto entries = std::make_unique<DirectoryStream>();
  const OpenDirectory open = TRY(opened(*directory));
  for (const LayerDirectory& part : *open) {
    if (part.layer == 0) continue;
    const Fd readable = TRY(reopen_readable(part.fd->get(), {}));
    entries->start(readable.get());
    while (const char* name = entries->next()) names.emplace(name);
    if (entries->error() != 0) return SysError{entries->error(), "getdents64", {}, {}, {}};
  }
  const std::lock_guard lock(mutex_);
  ordered_ += names.size();
  size_t order = ordered_;
  // Depth first, so that few directories are known at a time.
  for (auto name = names.rbegin(); name != names.rend(); ++name)
    tasks_.push_front({.order = --order, .name = *name, .parent = directory, .list = {}});
  return {};
}

std::string CopyUp::path_of(const Task& task) {
  std::vector<const std::string*> names;
  size_t size = task.name.size();
  const Directory* above = task.list ? task.list.get() : task.parent.get();
  for (; above != nullptr && above->parent; above = above->parent.get()) {
    names.push_back(&above->name);
    size += above->name.size() + 1;
  }
  std::string path;
  path.reserve(size);
  for (auto name = names.rbegin(); name != names.rend(); ++name) {
    if (!path.empty()) path += '/';
    path += **name;
  }
  if (!path.empty() && !task.name.empty()) path += '/';
  return path += task.name;
}

}  // namespace overlayfs
