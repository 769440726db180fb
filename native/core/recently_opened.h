// Descriptors of directories that may be needed again soon: the last ones stay open, however many there are.
#pragma once

#include <cstddef>
#include <deque>
#include <memory>
#include <mutex>
#include <utility>

namespace overlayfs {

// A quarter of what the process may have.
size_t descriptors_to_keep();

// Whoever opens something holds it weakly, and opens it again when it has gone.
class RecentlyOpened {
 public:
  explicit RecentlyOpened(size_t most_descriptors) : most_(most_descriptors) {}
  void keep(std::shared_ptr<const void> opened, size_t descriptors);

 private:
  const size_t most_;
  std::mutex mutex_;
  std::deque<std::pair<std::shared_ptr<const void>, size_t>> kept_;  // the last one last
  size_t descriptors_ = 0;
};

}  // namespace overlayfs
