#include "beneath.h"

#include <fcntl.h>
#include <limits.h>

#include "directory.h"
#include "sys.h"

namespace overlayfs {
namespace {

constexpr int kStep = O_PATH | O_DIRECTORY | O_NOFOLLOW;

// One name down. What is mounted there lies on another mount than the directory that holds the name.
Result<Fd> step(int directory, const std::string& name, int flags, mode_t mode, const std::string& path) {
  if (name == "..") return SysError{EXDEV, "openat", "..", path, {}};
  Fd opened(sys::openat(directory, name.c_str(), flags | O_NOFOLLOW, mode));
  if (!opened) {
    // O_DIRECTORY says ENOTDIR of a symbolic link; openat2(2) says ELOOP.
    struct stat st {};
    const int error = errno;
    const bool link = error == ENOTDIR &&
                      sys::fstatat(directory, name.c_str(), &st, AT_SYMLINK_NOFOLLOW) == 0 &&
                      S_ISLNK(st.st_mode);
    errno = link ? ELOOP : error;
    return failed("openat", name, path);
  }
  auto above = identify(directory, path), below = identify(opened.get(), path);
  if (!above) return std::move(above).error();
  if (!below) return std::move(below).error();
  if (above->mount_id != below->mount_id) return SysError{EXDEV, "openat", "a mount", path, {}};
  return opened;
}

Result<Fd> walk_beneath(int root, const std::string& path, int flags, mode_t mode) {
  Fd directory(sys::dup_fd(root));
  if (!directory) return failed("fcntl", "F_DUPFD_CLOEXEC", path);
  size_t at = 0;
  while (true) {
    const size_t end = path.find('/', at);
    const std::string name = path.substr(at, end - at);
    if (end == std::string::npos) return step(directory.get(), name.empty() ? "." : name, flags, mode, path);
    at = path.find_first_not_of('/', end);
    if (at == std::string::npos) return step(directory.get(), name, flags | O_DIRECTORY, mode, path);
    directory = TRY(step(directory.get(), name, kStep, 0, path));
  }
}

}  // namespace

Result<Fd> open_beneath(int root, const std::string& path, int flags, mode_t mode) {
  constexpr uint64_t resolve = abi::RESOLVE_BENEATH | abi::RESOLVE_NO_SYMLINKS | abi::RESOLVE_NO_XDEV;
  if (path.starts_with('/')) return SysError{EXDEV, "openat2", "absolute", path, {}};
  if (path.size() >= PATH_MAX) return walk_beneath(root, path, flags, mode);
  // O_NOFOLLOW with O_PATH stands for the link itself, which is not a directory: ENOTDIR, and not the link's
  // ELOOP.
  const int nofollow = (flags & O_DIRECTORY) != 0 ? 0 : O_NOFOLLOW;
  while (true) {
    Fd opened(sys::openat2(
        root, path.empty() ? "." : path.c_str(),
        {.flags = static_cast<uint64_t>(flags | nofollow) | O_CLOEXEC, .mode = mode, .resolve = resolve}));
    if (opened) return opened;
    if (errno == EAGAIN) continue;  // something was renamed meanwhile: openat2(2) could not be sure
    // EPERM is either the file's own answer or a seccomp filter that does not know the call: the walk tells.
    if (errno == ENOSYS || errno == EPERM) return walk_beneath(root, path, flags, mode);
    return failed("openat2", "RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV", path);
  }
}

Result<Fd> open_in_root(int root, const std::string& path, int flags) {
  constexpr uint64_t resolve = abi::RESOLVE_IN_ROOT | abi::RESOLVE_NO_XDEV;
  const size_t start = path.find_first_not_of('/');
  const std::string relative = start == std::string::npos ? "." : path.substr(start);
  while (true) {
    Fd opened(sys::openat2(
        root, relative.c_str(),
        {.flags = static_cast<uint64_t>(flags) | O_CLOEXEC | O_NOFOLLOW, .mode = 0, .resolve = resolve}));
    if (opened) return opened;
    if (errno == EAGAIN) continue;  // something was renamed meanwhile: openat2(2) could not be sure
    if (errno == ENOSYS || errno == EPERM) return walk_beneath(root, relative, flags, 0);
    return failed("openat2", "RESOLVE_IN_ROOT | RESOLVE_NO_XDEV", path);
  }
}

Result<Place> place_beneath(int root, const std::string& path) {
  std::string trimmed = path;
  while (trimmed.ends_with('/')) trimmed.pop_back();
  const size_t slash = trimmed.rfind('/');
  const std::string name = slash == std::string::npos ? trimmed : trimmed.substr(slash + 1);
  if (name.empty() || name == "." || name == "..") return SysError{EINVAL, "openat2", "no name", path, {}};
  const std::string parent = slash == std::string::npos ? std::string() : trimmed.substr(0, slash);
  return Place{TRY(open_beneath(root, parent, O_PATH | O_DIRECTORY)), name};
}

Result<Place> place_in_root(int root, const std::string& path) {
  const size_t end = path.find_last_not_of('/');
  if (end == std::string::npos) return Place{TRY(open_in_root(root, {}, O_PATH | O_DIRECTORY)), "."};
  const size_t slash = path.rfind('/', end);
  const size_t name = slash == std::string::npos ? 0 : slash + 1;
  return Place{TRY(open_in_root(root, path.substr(0, name), O_PATH | O_DIRECTORY)), path.substr(name)};
}

}  // namespace overlayfs
