#include "handoff.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>

#include <condition_variable>
#include <mutex>
#include <thread>

#include "kernel.h"

namespace twin {
namespace {

struct Thread {
  Thread() : done(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)), loop(::epoll_create1(EPOLL_CLOEXEC)) {
    epoll_event event{EPOLLIN, {}};
    must(::epoll_ctl(loop, EPOLL_CTL_ADD, done, &event), "epoll_ctl");
    std::thread([this] {
      std::unique_lock lock(mutex);
      while (true) {
        wanted.wait(lock, [this] { return has_job; });
        has_job = false;
        must(::eventfd_write(done, 1), "write");
      }
    }).detach();
  }

  std::mutex mutex;
  std::condition_variable wanted;
  bool has_job = false;
  const int done, loop;
};

}  // namespace

void hand_over() {
  static auto* const thread = new Thread;
  {
    const std::lock_guard lock(thread->mutex);
    thread->has_job = true;
  }
  thread->wanted.notify_one();
  epoll_event event;
  must(::epoll_wait(thread->loop, &event, 1, -1), "epoll_wait");
  eventfd_t count;
  must(::eventfd_read(thread->done, &count), "read");
}

}  // namespace twin
