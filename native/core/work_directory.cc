#include "work_directory.h"

#include <fcntl.h>

#include <tuple>

#include "sys.h"
#include "xattr.h"

namespace overlayfs {
namespace {

bool exists(int directory, const char* name) {
  struct stat st {};
  return sys::fstatat(directory, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

std::set<std::string> xattr_names(int fd) {
  auto names = list_xattrs(fd);
  return names ? std::set<std::string>(names->begin(), names->end()) : std::set<std::string>();
}

bool is_overlay_xattr(const std::string& name) {
  return name.starts_with("trusted.overlay.") || name.starts_with("user.overlay.");
}

// One step down that follows no symbolic link; O_RDONLY would need read permission on the kernel's mode 000
// directories.
Fd step_down(int directory, const char* name) {
  return Fd(sys::openat(directory, name, O_PATH | O_DIRECTORY | O_NOFOLLOW));
}

Fd open_incompat(int work) {
  const Fd inner = step_down(work, "work");
  return inner ? step_down(inner.get(), "incompat") : Fd();
}

}  // namespace

LayerSnapshot LayerSnapshot::take(int upper, int work) {
  LayerSnapshot snapshot;
  snapshot.upper_ = upper;
  snapshot.work_ = work;
  snapshot.had_work_ = exists(work, "work");
  snapshot.had_index_ = exists(work, "index");
  snapshot.xattrs_ = xattr_names(upper);
  return snapshot;
}

void LayerSnapshot::restore() const {
  if (!had_work_) {
    std::ignore = remove_volatile_marker(work_);
    if (const Fd inner = step_down(work_, "work")) sys::unlinkat(inner.get(), "incompat", AT_REMOVEDIR);
    sys::unlinkat(work_, "work", AT_REMOVEDIR);
  }
  if (!had_index_) sys::unlinkat(work_, "index", AT_REMOVEDIR);
  for (const std::string& name : xattr_names(upper_)) {
    if (is_overlay_xattr(name) && !xattrs_.contains(name)) sys::fremovexattr(upper_, name.c_str());
  }
}

bool has_volatile_marker(int work) {
  const Fd incompat = open_incompat(work);
  return incompat && exists(incompat.get(), "volatile");
}

Result<void> remove_volatile_marker(int work) {
  const Fd incompat = open_incompat(work);
  if (!incompat) return {};
  if (const Fd marker = step_down(incompat.get(), "volatile")) {
    if (sys::unlinkat(marker.get(), "dirty", 0) != 0 && errno != ENOENT)
      return failed("unlinkat", "\"dirty\"");
  }
  if (sys::unlinkat(incompat.get(), "volatile", AT_REMOVEDIR) != 0 && errno != ENOENT) {
    return failed("unlinkat", "\"volatile\"");
  }
  return {};
}

}  // namespace overlayfs
