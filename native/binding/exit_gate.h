// The mounts that this process answers for, and the gate that takes them away when an environment ends.
#pragma once

#include <napi.h>

#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "../core/cancel.h"
#include "../core/overlay_mount.h"
#include "../core/overlay_unmount.h"

namespace overlayfs {

class ExitGate;

// One overlay that a handle in JavaScript stands for.
struct LiveMount {
  std::mutex changing;  // attach, remount, unmount and opening the root take turns
  bool mounted = true;
  std::shared_ptr<ExitGate> gate;  // whose it is
  DirectoryIdentity identity;
  std::string target;  // empty while detached
  std::optional<DirectoryIdentity> made_target;
  bool keep_on_exit = false;
  Fd root;  // while detached
  MountedLayers layers;
  Fd upper_for_sync;
  Rung rung = Rung::layer_fds;  // for the question whether upper and work are in use …
  bool detached_layers = false, can_tell_in_use = false;
};
using LiveMountPtr = std::shared_ptr<LiveMount>;

// What became of a mount that did not go at once.
struct ExitOutcome {
  std::string target;
  int error;  // 0: it was busy and has been detached lazily; else it is still there
};

// Unmounts, closes the layers and removes a target directory that we made. EBUSY leaves everything as it was.
// `sync_volatile`: then makes the upper durable and removes the volatile marker. The caller holds `changing`.
Result<Unmounted> end_mount(LiveMount& mount, bool lazy, bool sync_volatile = false);

// The same for a process that is ending: a busy mount is detached lazily, since what keeps it busy is mostly
// this process.
std::optional<ExitOutcome> end_mount_at_once(LiveMount& mount);

// A descriptor of its root. ENOENT: it has been unmounted.
Result<Fd> open_root(LiveMount& mount);

// Every live mount of this process, whichever environment made it.
std::vector<DirectoryIdentity> live_mounts();
// The descriptors of all their layers, which stay theirs.
std::vector<int> live_layers();

// One for each environment (the main thread's and each worker's).
class ExitGate : public std::enable_shared_from_this<ExitGate> {
 public:
  static void install(Napi::Env env);
  static ExitGate& of(Napi::Env env) { return **env.GetInstanceData<std::shared_ptr<ExitGate>>(); }
  ExitGate() = default;
  ExitGate(const ExitGate&) = delete;
  ExitGate& operator=(const ExitGate&) = delete;

  // A job: `work` runs on our threads, `settle` on the JavaScript thread, unless the environment has ended by
  // then.
  struct Job {
    virtual ~Job() = default;
    virtual void work() = 0;
    virtual void settle(Napi::Env env) = 0;
  };
  // 0, or why it was not started: ECANCELED, the gate is closed; EAGAIN, there is no thread to be had.
  int start(Napi::Env env, std::unique_ptr<Job> job);

  // Work that may end half-way need not be waited for: this is set when the gate closes.
  void cancel_at_exit(const Cancel& cancel);

  LiveMountPtr add(std::unique_ptr<LiveMount> mount);
  bool closed();

  // Closes the gate, waits up to two seconds for jobs that are under way, then unmounts what is not
  // `keep_on_exit`.
  std::vector<ExitOutcome> close();

 private:
  static void call_js(napi_env env, napi_value, void* context, void* data);
  void finish(std::unique_ptr<Job> job);

  std::mutex mutex_;
  std::condition_variable idle_;
  bool closed_ = false;
  bool torn_down_ = false;  // the threadsafe function must not be called again
  std::vector<std::weak_ptr<Cancel::element_type>> cancelled_at_exit_;
  int at_work_ = 0;    // jobs on our threads
  int unsettled_ = 0;  // jobs that keep the event loop alive; JavaScript thread only
  napi_threadsafe_function settle_ = nullptr;
};

}  // namespace overlayfs
