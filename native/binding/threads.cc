#include "threads.h"

#include <pthread.h>
#include <signal.h>

#include <condition_variable>
#include <deque>
#include <mutex>

#include "../core/thread.h"

namespace overlayfs::threads {
namespace {

constexpr int kMostThreads = 8;  // they mostly sleep, in RCU grace periods and flushes

struct Pool {
  std::mutex mutex;
  std::condition_variable wanted;
  std::deque<std::function<void()>> jobs;
  int started = 0, idle = 0;

  void work() {
    // Signals are the main thread's.
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, nullptr);
    std::unique_lock lock(mutex);
    while (true) {
      ++idle;
      wanted.wait(lock, [this] { return !jobs.empty(); });
      --idle;
      auto job = std::move(jobs.front());
      jobs.pop_front();
      lock.unlock();
      job();
      job = nullptr;  // what it holds is let go before the next wait, not after it
      lock.lock();
    }
  }
};

// Never destroyed: a thread may still be at work while the process exits.
Pool& pool() {
  static auto* const instance = new Pool;
  return *instance;
}

}  // namespace

int run(std::function<void()> job) {
  Pool& p = pool();
  std::unique_lock lock(p.mutex);
  p.jobs.push_back(std::move(job));
  if (p.jobs.size() > static_cast<size_t>(p.idle) && p.started < kMostThreads) {
    const int error = start_thread([&p] { p.work(); }, false);
    if (error == 0) ++p.started;
    if (p.started == 0) {
      p.jobs.pop_back();
      return error;
    }
  }
  lock.unlock();  // or the thread that wakes would wait for it
  p.wanted.notify_one();
  return 0;
}

}  // namespace overlayfs::threads
