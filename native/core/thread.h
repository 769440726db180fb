// Threads without exceptions: std::thread ends the process where the system has no thread to give.
#pragma once

#include <pthread.h>

#include <functional>
#include <memory>

namespace overlayfs {

// Starts a thread, detached or waited for; 0, or the error number that refused it.
inline int start_thread(std::function<void()> work, bool wait) {
  auto owned = std::make_unique<std::function<void()>>(std::move(work));
  const auto entry = [](void* argument) -> void* {
    const std::unique_ptr<std::function<void()>> job(static_cast<std::function<void()>*>(argument));
    (*job)();
    return nullptr;
  };
  pthread_t thread;
  if (const int error = pthread_create(&thread, nullptr, entry, owned.get()); error != 0) return error;
  owned.release();  // NOLINT(bugprone-unused-return-value): the thread owns it now
  return wait ? pthread_join(thread, nullptr) : pthread_detach(thread);
}

inline int run_on_own_thread(std::function<void()> work) { return start_thread(std::move(work), true); }

}  // namespace overlayfs
