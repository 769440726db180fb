// A private tmpfs for an upper and a work directory, or for an empty lower, that no path leads to.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "fd.h"
#include "result.h"

namespace overlayfs {

// Detached where the kernel takes layers on a detached mount (6.15). Before that it is attached to a private
// 0700 directory until release_name(), which detaches it lazily: the overlay made meanwhile keeps it alive.
class ScratchTmpfs {
 public:
  static Result<ScratchTmpfs> create(std::optional<uint64_t> size, bool attached);
  ScratchTmpfs(ScratchTmpfs&& other) noexcept
      : root_(std::move(other.root_)), name_(std::exchange(other.name_, {})) {}
  ScratchTmpfs& operator=(ScratchTmpfs&&) = delete;
  ~ScratchTmpfs() { release_name(); }

  Result<Fd> make_directory(const char* name) const;  // mode 0755, as an O_PATH descriptor
  void release_name();

 private:
  ScratchTmpfs() = default;

  Fd root_;
  std::string name_;  // of the private directory, while attached
};

}  // namespace overlayfs
