#include "recently_opened.h"

#include <sys/resource.h>

#include <algorithm>
#include <vector>

namespace overlayfs {
namespace {

constexpr size_t kMostDescriptors = 512, kLeastDescriptors = 8;

}  // namespace

size_t descriptors_to_keep() {
  struct rlimit limit {};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return kLeastDescriptors;
  return std::clamp<size_t>(limit.rlim_cur / 4, kLeastDescriptors, kMostDescriptors);
}

void RecentlyOpened::keep(std::shared_ptr<const void> opened, size_t descriptors) {
  std::vector<std::shared_ptr<const void>> dropped;  // closed when the lock is gone
  const std::lock_guard lock(mutex_);
  kept_.emplace_back(std::move(opened), descriptors);
  descriptors_ += descriptors;
  while (descriptors_ > most_ && kept_.size() > 1) {
    descriptors_ -= kept_.front().second;
    dropped.push_back(std::move(kept_.front().first));
    kept_.pop_front();
  }
}

}  // namespace overlayfs
