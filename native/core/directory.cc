#include "directory.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/sysmacros.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "sys.h"

namespace overlayfs {
namespace {

// Before Linux 5.8 statx(2) does not tell the mount; proc(5) does, in fdinfo.
uint64_t own_mount_id(int fd) {
  Fd info(sys::openat(AT_FDCWD, ("/proc/self/fdinfo/" + std::to_string(fd)).c_str(), O_RDONLY));
  std::array<char, 512> text{};
  if (!info || ::read(info.get(), text.data(), text.size() - 1) <= 0) return 0;
  const char* found = std::strstr(text.data(), "mnt_id:");
  return found == nullptr ? 0 : std::strtoull(found + 7, nullptr, 10);
}

}  // namespace

Result<struct stat> stat_of(int fd) {
  struct stat status {};
  if (sys::fstatat(fd, "", &status, AT_EMPTY_PATH) != 0) return failed("fstatat");
  return status;
}

std::string fd_name(int fd) { return "/proc/self/fd/" + std::to_string(fd); }

std::string canonical_path(int fd) {
  std::array<char, PATH_MAX> path;
  const ssize_t size = ::readlink(fd_name(fd).c_str(), path.data(), path.size());
  if (size <= 0 || static_cast<size_t>(size) == path.size()) return {};
  return {path.data(), static_cast<size_t>(size)};
}

std::string name_of_directory(int fd) {
  std::string name = canonical_path(fd);
  const Fd there(sys::openat(AT_FDCWD, name.c_str(), O_PATH | O_DIRECTORY | O_NOFOLLOW));
  if (!there) return {};
  auto found = identify(there.get(), name), wanted = identify(fd, name);
  const bool same = found && wanted && found->same_directory(*wanted) && found->mount_id == wanted->mount_id;
  return same ? name : std::string();
}

Result<Fd> open_directory(const DirectoryRef& ref) {
  if (ref.fd < 0) {
    Fd opened(sys::openat(AT_FDCWD, ref.path.c_str(), O_PATH | O_DIRECTORY));
    if (!opened) return failed("openat", "O_PATH | O_DIRECTORY", ref.path);
    return opened;
  }
  Fd copy(sys::dup_fd(ref.fd));
  if (!copy) return failed("fcntl", "F_DUPFD_CLOEXEC", ref.shown());
  struct stat st {};
  if (sys::fstatat(copy.get(), "", &st, AT_EMPTY_PATH) != 0) return failed("fstatat", {}, ref.shown());
  if (!S_ISDIR(st.st_mode)) return SysError{ENOTDIR, "fstatat", {}, ref.shown(), {}};
  return copy;
}

Result<Fd> reopen_readable(int directory, const std::string& path) {
  Fd readable(sys::openat(directory, ".", O_RDONLY | O_DIRECTORY));
  if (!readable) return failed("openat", "\".\", O_RDONLY | O_DIRECTORY", path);
  return readable;
}

Result<DirectoryIdentity> identify(int directory, const std::string& path) {
  abi::Statx stx{};
  constexpr unsigned mask =
      abi::statx_mask::INO | abi::statx_mask::NLINK | abi::statx_mask::TYPE | abi::statx_mask::MNT_ID_UNIQUE;
  if (sys::statx(directory, "", AT_EMPTY_PATH, mask, &stx) == 0) {
    DirectoryIdentity identity{uint64_t{stx.dev_major} << 32 | stx.dev_minor, stx.ino, stx.mnt_id, stx.nlink,
                               (stx.mask & abi::statx_mask::MNT_ID_UNIQUE) != 0};
    if ((stx.mask & (abi::statx_mask::MNT_ID | abi::statx_mask::MNT_ID_UNIQUE)) == 0) {
      identity.mount_id = own_mount_id(directory);
    }
    return identity;
  }
  // EPERM from a call that needs no privilege is a seccomp filter that does not know it.
  if (errno != ENOSYS && errno != EPERM) return failed("statx", {}, path);
  struct stat st {};
  if (sys::fstatat(directory, "", &st, AT_EMPTY_PATH) != 0) return failed("fstatat", {}, path);
  const uint64_t device = uint64_t{gnu_dev_major(st.st_dev)} << 32 | gnu_dev_minor(st.st_dev);
  return DirectoryIdentity{device, st.st_ino, own_mount_id(directory), static_cast<uint32_t>(st.st_nlink),
                           false};
}

Result<DirectoryIdentity> identify_mount(int root, const std::string& path) {
  DirectoryIdentity identity = TRY(identify(root, path));
  abi::Statx stx{};
  const bool told =
      identity.unique_mount_id && sys::statx(root, "", AT_EMPTY_PATH, abi::statx_mask::MNT_ID, &stx) == 0;
  identity.reusable_mount_id = told ? stx.mnt_id : identity.mount_id;
  return identity;
}

Result<std::optional<DirectoryIdentity>> make_directory(const std::string& path, mode_t mode) {
  if (sys::mkdirat(AT_FDCWD, path.c_str(), mode) != 0) {
    if (errno == EEXIST) return std::optional<DirectoryIdentity>();
    return failed("mkdirat", {}, path);
  }
  const auto look = [&]() -> Result<DirectoryIdentity> {
    const Fd made = TRY(open_directory({path}));
    return identify(made.get(), path);
  };
  auto made = look();
  if (made) return std::optional(*made);
  sys::unlinkat(AT_FDCWD, path.c_str(), AT_REMOVEDIR);
  return std::move(made).error();
}

void remove_directory(const std::string& path, const DirectoryIdentity& made) {
  const Fd there(sys::openat(AT_FDCWD, path.c_str(), O_PATH | O_DIRECTORY | O_NOFOLLOW));
  if (!there) return;
  auto found = identify(there.get(), path);
  if (found && found->same_directory(made)) sys::unlinkat(AT_FDCWD, path.c_str(), AT_REMOVEDIR);
}

}  // namespace overlayfs
