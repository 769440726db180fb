// A directory that a caller names by path or by descriptor: opening it, and saying which one it is.
#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <optional>
#include <string>

#include "fd.h"
#include "result.h"

namespace overlayfs {

// A layer as the caller gave it: a path in bytes, or an open descriptor (fd >= 0).
struct DirectoryRef {
  std::string path;
  int fd = -1;

  std::string shown() const { return fd >= 0 ? "fd " + std::to_string(fd) : path; }
};

// What tells one directory from every other, whatever name it was reached by.
struct DirectoryIdentity {
  uint64_t device = 0, inode = 0, mount_id = 0;
  uint32_t links = 0;
  bool unique_mount_id =
      false;  // STATX_MNT_ID_UNIQUE: never used again; otherwise the reusable id of mountinfo
  uint64_t reusable_mount_id = 0;  // only identify_mount() asks for it

  bool same_directory(const DirectoryIdentity& other) const {
    return device == other.device && inode == other.inode;
  }
};

// An O_PATH descriptor of the directory; the caller's own descriptor is duplicated, never taken.
Result<Fd> open_directory(const DirectoryRef& ref);

// A readable descriptor of the same directory: what xattr, flock, syncfs and openat(2) on older kernels ask
// for.
Result<Fd> reopen_readable(int directory, const std::string& path);

Result<DirectoryIdentity> identify(int directory, const std::string& path);

// The root of a mount that will be looked for in mount tables: where statmount(2) is not to be had (a seccomp
// filter that does not know it), those have only reusable ids.
Result<DirectoryIdentity> identify_mount(int root, const std::string& path);

// Makes a directory and says which one it is; nothing if it was there. Removes it again, if it is
// still that one and empty.
Result<std::optional<DirectoryIdentity>> make_directory(const std::string& path, mode_t mode = 0755);
void remove_directory(const std::string& path, const DirectoryIdentity& made);

Result<struct stat> stat_of(int fd);  // O_PATH will do

std::string fd_name(int fd);  // "/proc/self/fd/N"
std::string canonical_path(
    int fd);  // the kernel's own name: absolute, free of symbolic links; empty if it has none
// The same, where opening that name leads to this very directory: what is deleted, on a detached mount or
// mounted over has none.
std::string name_of_directory(int fd);

}  // namespace overlayfs
