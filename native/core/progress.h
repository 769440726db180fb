// How far work on our threads has come, for the JavaScript thread to look at.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

namespace overlayfs {

struct ProgressCounts {
  std::atomic<uint64_t> entries = 0, bytes = 0;
};
using Progress = std::shared_ptr<ProgressCounts>;

}  // namespace overlayfs
