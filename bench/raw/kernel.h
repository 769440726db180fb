// System calls that must succeed, and nothing else: no class, no allocation, no second try.
#pragma once

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "../../native/core/kernel_abi.h"

namespace twin {

namespace abi = overlayfs::abi;

inline long must(long result, const char* what) {
  if (result >= 0) return result;
  std::printf("error %s: %s\n", what, std::strerror(errno));
  std::exit(1);
}

inline int open_at(int directory, const char* path, int flags) {
  return static_cast<int>(must(::openat(directory, path, flags | O_DIRECTORY | O_CLOEXEC), path));
}
inline int open_path(const char* path) { return open_at(AT_FDCWD, path, O_PATH); }
inline int step_down(int directory, const char* name) {
  return open_at(directory, name, O_PATH | O_NOFOLLOW);
}

inline uint64_t identify(int fd) {
  constexpr unsigned mask =
      abi::statx_mask::INO | abi::statx_mask::NLINK | abi::statx_mask::TYPE | abi::statx_mask::MNT_ID_UNIQUE;
  abi::Statx stx;
  must(syscall(SYS_statx, fd, "", AT_EMPTY_PATH, mask, &stx), "statx");
  return stx.mnt_id;
}

// Whether a mount is shared: asking for more would have the kernel write out every layer's name.
inline void stat_propagation(uint64_t id) {
  alignas(8) char buffer[1024];
  const abi::MntIdReq request{24, 0, id, abi::STATMOUNT_MNT_BASIC};
  must(syscall(abi::SYS_STATMOUNT, &request, buffer, sizeof buffer, 0), "statmount");
}

inline int fs_open(const char* type) {
  return static_cast<int>(must(syscall(abi::SYS_FSOPEN, type, 1), "fsopen"));
}
inline void set_string(int fs, const char* key, const char* value) {
  must(syscall(abi::SYS_FSCONFIG, fs, abi::FSCONFIG_SET_STRING, key, value, 0), key);
}
inline void set_flag(int fs, const char* key) {
  must(syscall(abi::SYS_FSCONFIG, fs, abi::FSCONFIG_SET_FLAG, key, nullptr, 0), key);
}
inline void set_fd(int fs, const char* key, int fd) {
  must(syscall(abi::SYS_FSCONFIG, fs, abi::FSCONFIG_SET_FD, key, nullptr, fd), key);
}
inline void create(int fs) {
  must(syscall(abi::SYS_FSCONFIG, fs, abi::FSCONFIG_CMD_CREATE, nullptr, nullptr, 0), "create");
}
inline int fs_mount(int fs) {
  const int mount = static_cast<int>(must(syscall(abi::SYS_FSMOUNT, fs, 1, 0), "fsmount"));
  ::close(fs);
  return mount;
}

inline void unmount(const char* path) { must(syscall(SYS_umount2, path, abi::UMOUNT_NOFOLLOW), "umount2"); }

}  // namespace twin
