// A request to stop, made on the JavaScript thread, seen by the threads that work.
#pragma once

#include <atomic>
#include <memory>

namespace overlayfs {

using Cancel = std::shared_ptr<std::atomic<bool>>;

inline bool cancelled(const Cancel& cancel) {
  return cancel != nullptr && cancel->load(std::memory_order_relaxed);
}

}  // namespace overlayfs
