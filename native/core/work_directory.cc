#include "work_directory.h"

#include <fcntl.h>

#include <tuple>

#include "sys.h"
#include "xattr.h"

namespace overlayfs {
namespace {

bool exists(int directory, const char* name) {
  struct stat st {};
  return sys::fstatat(directory, name, &st, AT_SYMLINK_NOFOLLOW) == 0 || errno != ENOENT;
}

std::optional<std::set<std::string>> xattr_names(int fd) {
  auto names = list_xattrs(fd);
  if (!names) return {};
  return std::set<std::string>(names->begin(), names->end());
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

void make_volatile_marker(int work) {
  sys::mkdirat(work, "work", 0);
  const Fd inner = step_down(work, "work");
  if (!inner) return;
  sys::mkdirat(inner.get(), "incompat", 0);
  const Fd incompat = step_down(inner.get(), "incompat");
  if (!incompat) return;
  sys::mkdirat(incompat.get(), "volatile", 0);
  const Fd marker = step_down(incompat.get(), "volatile");
  if (marker) Fd(sys::openat(marker.get(), "dirty", O_CREAT | O_WRONLY | O_NOFOLLOW, 0));
}

}  // namespace

LayerSnapshot LayerSnapshot::take(int upper, int work) {
  LayerSnapshot snapshot;
  snapshot.upper_ = upper;
  snapshot.work_ = work;
  snapshot.had_work_ = exists(work, "work");
  snapshot.had_index_ = exists(work, "index");
  snapshot.had_marker_ = has_volatile_marker(work);
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
  if (had_marker_ && !has_volatile_marker(work_)) make_volatile_marker(work_);
  const auto now = xattr_names(upper_);
  if (!xattrs_ || !now) return;
  for (const std::string& name : *now) {
    if (is_overlay_xattr(name) && !xattrs_->contains(name)) sys::fremovexattr(upper_, name.c_str());
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
