// A file system context: fsopen(2), fsconfig(2), fsmount(2). One method per meaning.
#pragma once

#include <cstdint>
#include <string>

#include "fd.h"
#include "result.h"

namespace overlayfs {

class FsContext {
 public:
  static Result<FsContext> open(const char* type);  // fsopen(2)
  static Result<FsContext> pick(int mount_root);    // fspick(2): the context of a mounted superblock

  Result<void> set_string(const std::string& key, const std::string& value) const;
  Result<void> set_flag(const std::string& key) const;
  Result<void> set_fd(const std::string& key, int fd) const;
  Result<void> create() const;       // FSCONFIG_CMD_CREATE
  Result<void> reconfigure() const;  // FSCONFIG_CMD_RECONFIGURE
  Result<Fd> mount(uint64_t mount_attributes) const;

 private:
  explicit FsContext(Fd fd) : fd_(std::move(fd)) {}
  Result<void> checked(int result, const char* command, const std::string& shown) const;
  std::string read_log() const;

  Fd fd_;
};

// Whether overlayfs reads its options itself (6.5): the wrapper before that takes an option of no kernel too.
bool checks_options_at_once(const FsContext& overlay);

}  // namespace overlayfs
