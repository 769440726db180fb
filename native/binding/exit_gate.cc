#include "exit_gate.h"

#include <fcntl.h>

#include <chrono>
#include <tuple>

#include "../core/sys.h"
#include "../core/work_directory.h"
#include "threads.h"

namespace overlayfs {
namespace {

// Process-wide on purpose: which overlays are our own is a question about the process. Never destroyed, since
// a worker thread may still look at it while the process exits.
struct Registry {
  std::mutex mutex;
  std::vector<LiveMountPtr> mounts;  // oldest first
};
Registry& registry() {
  static auto* const instance = new Registry;
  return *instance;
}

void forget(const LiveMount& mount) {
  Registry& all = registry();
  const std::lock_guard lock(all.mutex);
  std::erase_if(all.mounts, [&](const LiveMountPtr& known) { return known.get() == &mount; });
}

constexpr std::chrono::seconds kPatience{2};

}  // namespace

// Syncing comes after unmounting; and the marker goes only when the kernel says that nothing writes there any
// more: a bind mount, another namespace's copy or an open file of a detached view would keep the overlay
// alive.
static Result<void> sync_and_clear_marker(LiveMount& mount, Fd upper_for_sync) {
  const OpenLayer upper{std::move(mount.layers.upper), {}, {}};
  const OpenLayer work{std::move(mount.layers.work), {}, {}};
  if (sys::syncfs(upper_for_sync.get()) != 0) return failed("syncfs");
  const Fd lock = TRY(lock_work_directory(work));  // nobody mounts between the question and the removal
  if (mount.can_tell_in_use) {
    const InUseAnswer in_use = probe_in_use(upper, work, mount.rung, mount.detached_layers);
    if (in_use.answer != InUse::no)
      return SysError{EBUSY, "syncfs", "the overlay is still in use " + in_use.reason, {}, {}};
  }
  TRY(remove_volatile_marker(work.fd.get()));
  if (sys::syncfs(upper_for_sync.get()) != 0) return failed("syncfs");
  return {};
}

Result<Unmounted> end_mount(LiveMount& mount, bool lazy, bool sync_volatile) {
  if (!mount.mounted) return Unmounted::already;
  Unmounted unmounted = Unmounted::now;
  if (!mount.target.empty()) unmounted = TRY(unmount_overlay(mount.identity, mount.target, lazy));
  mount.mounted = false;
  mount.root.reset();
  mount.layers.lower.clear();
  mount.layers.data_only_lower.clear();
  if (mount.made_target) remove_directory(mount.target, *mount.made_target);
  forget(mount);
  Fd upper_for_sync = std::move(mount.upper_for_sync);
  Result<void> synced;
  if (sync_volatile && upper_for_sync) synced = sync_and_clear_marker(mount, std::move(upper_for_sync));
  mount.layers = {};
  TRY(std::move(synced));
  return unmounted;
}

Result<Fd> open_root(LiveMount& mount) {
  const std::lock_guard lock(mount.changing);
  if (!mount.mounted) return SysError{ENOENT, "openat", "unmounted", mount.target, {}};
  if (mount.root) return reopen_readable(mount.root.get(), mount.target);
  return open_mount_root(mount.identity, mount.target);
}

std::optional<ExitOutcome> end_mount_at_once(LiveMount& mount) {
  if (end_mount(mount, false)) return {};
  auto lazily = end_mount(mount, true);
  return ExitOutcome{mount.target, lazily ? 0 : lazily.error().err};
}

std::vector<DirectoryIdentity> live_mounts() {
  Registry& all = registry();
  const std::lock_guard lock(all.mutex);
  std::vector<DirectoryIdentity> identities;
  for (const LiveMountPtr& mount : all.mounts) identities.push_back(mount->identity);
  return identities;
}

std::vector<int> live_layers() {
  Registry& all = registry();
  const std::lock_guard lock(all.mutex);
  std::vector<int> fds;
  for (const LiveMountPtr& mount : all.mounts) {
    // One that is being changed is going, or has its layers for good.
    const std::unique_lock changing(mount->changing, std::try_to_lock);
    if (!changing) continue;
    for (const Fd& fd : mount->layers.lower) fds.push_back(fd.get());
    for (const Fd& fd : mount->layers.data_only_lower) fds.push_back(fd.get());
    if (mount->layers.upper) fds.push_back(mount->layers.upper.get());
    if (mount->layers.work) fds.push_back(mount->layers.work.get());
  }
  return fds;
}

void ExitGate::install(Napi::Env env) {
  auto gate = std::make_shared<ExitGate>();
  napi_create_threadsafe_function(env, nullptr, nullptr, Napi::String::New(env, "overlayfs"), 0, 1, nullptr,
                                  nullptr, gate.get(), call_js, &gate->settle_);
  napi_unref_threadsafe_function(env, gate->settle_);
  env.SetInstanceData(new std::shared_ptr<ExitGate>(gate));
  // Clean-up hooks run newest first, so this one comes before the threadsafe function's own, which frees it:
  // once torn_down_ is set no thread touches it any more.
  env.AddCleanupHook(
      [](ExitGate* self) {
        self->close();
        const std::lock_guard lock(self->mutex_);
        self->torn_down_ = true;
      },
      gate.get());
}

bool ExitGate::closed() {
  const std::lock_guard lock(mutex_);
  return closed_;
}

void ExitGate::cancel_at_exit(const Cancel& cancel) {
  if (!cancel) return;
  const std::lock_guard lock(mutex_);
  std::erase_if(cancelled_at_exit_, [](const auto& known) { return known.expired(); });
  cancelled_at_exit_.push_back(cancel);
}

LiveMountPtr ExitGate::add(std::unique_ptr<LiveMount> mount) {
  LiveMountPtr shared = std::move(mount);
  shared->gate = shared_from_this();
  Registry& all = registry();
  const std::lock_guard lock(all.mutex);
  all.mounts.push_back(shared);
  return shared;
}

int ExitGate::start(Napi::Env env, std::unique_ptr<Job> job) {
  {
    const std::lock_guard lock(mutex_);
    if (closed_) return ECANCELED;
    ++at_work_;
  }
  Job* const raw = job.get();
  const int error = threads::run([gate = shared_from_this(), raw] {
    raw->work();
    gate->finish(std::unique_ptr<Job>(raw));
  });
  if (error != 0) {
    const std::lock_guard lock(mutex_);
    --at_work_;
    return error;
  }
  std::ignore = job.release();
  if (unsettled_++ == 0) napi_ref_threadsafe_function(env, settle_);
  return 0;
}

void ExitGate::finish(std::unique_ptr<Job> job) {
  const std::lock_guard lock(mutex_);
  --at_work_;
  idle_.notify_all();
  if (torn_down_) return;
  if (napi_call_threadsafe_function(settle_, job.get(), napi_tsfn_nonblocking) == napi_ok)
    std::ignore = job.release();
}

void ExitGate::call_js(napi_env env, napi_value, void* context, void* data) {
  const std::unique_ptr<Job> job(static_cast<Job*>(data));
  if (env == nullptr) return;
  auto* gate = static_cast<ExitGate*>(context);
  if (--gate->unsettled_ == 0) napi_unref_threadsafe_function(env, gate->settle_);
  job->settle(Napi::Env(env));
}

std::vector<ExitOutcome> ExitGate::close() {
  {
    std::unique_lock lock(mutex_);
    closed_ = true;
    for (const auto& known : cancelled_at_exit_) {
      if (const Cancel cancel = known.lock()) cancel->store(true, std::memory_order_relaxed);
    }
    idle_.wait_for(lock, kPatience, [this] { return at_work_ == 0; });
  }
  std::vector<LiveMountPtr> ours;
  {
    Registry& all = registry();
    const std::lock_guard lock(all.mutex);
    for (const LiveMountPtr& mount : all.mounts) {
      if (mount->gate.get() == this) ours.push_back(mount);
    }
  }
  std::vector<ExitOutcome> outcomes;
  for (auto mount = ours.rbegin(); mount != ours.rend(); ++mount) {
    const std::unique_lock lock((*mount)->changing, std::try_to_lock);
    if (!lock)
      continue;  // a change of it has been under way for more than our patience, and looks at the gate when
                 // done
    if ((*mount)->keep_on_exit) {
      (*mount)->layers = {};
      forget(**mount);
      continue;
    }
    if (auto outcome = end_mount_at_once(**mount)) outcomes.push_back(*std::move(outcome));
  }
  return outcomes;
}

}  // namespace overlayfs
