#include "fs_context.h"

#include <unistd.h>

#include <array>

#include "sys.h"

namespace overlayfs {

Result<FsContext> FsContext::open(const char* type) {
  Fd fd(sys::fsopen(type));
  if (!fd) return failed("fsopen", type);
  return FsContext(std::move(fd));
}

Result<FsContext> FsContext::pick(int mount_root) {
  Fd fd(sys::fspick(mount_root, "", abi::FSPICK_EMPTY_PATH));
  if (!fd) return failed("fspick");
  return FsContext(std::move(fd));
}

Result<void> FsContext::set_string(const std::string& key, const std::string& value) const {
  return checked(sys::fsconfig(fd_.get(), abi::FSCONFIG_SET_STRING, key.c_str(), value.c_str(), 0),
                 "SET_STRING", key + "=" + value);
}

Result<void> FsContext::set_flag(const std::string& key) const {
  return checked(sys::fsconfig(fd_.get(), abi::FSCONFIG_SET_FLAG, key.c_str(), nullptr, 0), "SET_FLAG", key);
}

Result<void> FsContext::set_fd(const std::string& key, int fd) const {
  return checked(sys::fsconfig(fd_.get(), abi::FSCONFIG_SET_FD, key.c_str(), nullptr, fd), "SET_FD",
                 key + "=" + std::to_string(fd));
}

Result<void> FsContext::create() const {
  return checked(sys::fsconfig(fd_.get(), abi::FSCONFIG_CMD_CREATE, nullptr, nullptr, 0), "CMD_CREATE", {});
}

Result<void> FsContext::reconfigure() const {
  return checked(sys::fsconfig(fd_.get(), abi::FSCONFIG_CMD_RECONFIGURE, nullptr, nullptr, 0),
                 "CMD_RECONFIGURE", {});
}

Result<Fd> FsContext::mount(uint64_t mount_attributes) const {
  Fd mount(sys::fsmount(fd_.get(), mount_attributes));
  if (!mount) {
    SysError error = failed("fsmount");
    error.kernel = read_log();
    return error;
  }
  return mount;
}

Result<void> FsContext::checked(int result, const char* command, const std::string& shown) const {
  if (result == 0) return {};
  SysError error = failed("fsconfig", shown.empty() ? command : std::string(command) + ", " + shown);
  error.kernel = read_log();
  return error;
}

// Each read(2) takes one message, "e overlay: text"; ENODATA ends the log. Kernels before 6.5 keep nothing
// for overlay.
std::string FsContext::read_log() const {
  std::string log;
  std::array<char, 8192> line;
  for (ssize_t size; (size = ::read(fd_.get(), line.data(), line.size())) > 0;) {
    if (!log.empty()) log += '\n';
    log.append(line.data(), line[static_cast<size_t>(size) - 1] == '\n' ? size - 1 : size);
  }
  return log;
}

bool checks_options_at_once(const FsContext& overlay) {
  return !overlay.set_string("overlayfs_no_such_option", "x");
}

}  // namespace overlayfs
