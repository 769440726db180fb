// write(2), until everything is written.
#pragma once

#include <cerrno>
#include <string>

#include "result.h"
#include "sys.h"

namespace overlayfs {

inline Result<void> write_all(int file, const std::string& bytes) {
  for (size_t at = 0; at < bytes.size();) {
    const ssize_t written = sys::write(file, bytes.data() + at, bytes.size() - at);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return failed("write");
    at += static_cast<size_t>(written);
  }
  return {};
}

}  // namespace overlayfs
