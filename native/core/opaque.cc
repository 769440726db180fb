#include "opaque.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>

#include <algorithm>

#include "directory.h"
#include "sys.h"
#include "xattr.h"

namespace overlayfs {
namespace {

constexpr const char* kFuseOverlayfs = "user.fuseoverlayfs.opaque";
constexpr const char* kAufs = ".wh..wh..opq";

char outcome(OpaqueForm form) { return static_cast<char>(form); }

Result<OpaqueForm> foreign_form_of(int directory) {
  if (TRY(xattr_of(directory, kFuseOverlayfs)) == "y") return OpaqueForm::fuse_overlayfs;
  struct stat st {};
  if (sys::fstatat(directory, kAufs, &st, AT_SYMLINK_NOFOLLOW) == 0) return OpaqueForm::aufs;
  if (errno != ENOENT) return failed("fstatat", kAufs);
  return OpaqueForm::none;
}

Result<OpaqueForm> form_of(int directory, const std::string& prefix) {
  if (TRY(opaque_mark(directory, prefix)) == Opaque::yes) return OpaqueForm::xattr;
  return foreign_form_of(directory);
}
Result<void> clear(int directory, OpaqueForm form, const std::string& prefix) {
  if (form == OpaqueForm::aufs) {
    if (sys::unlinkat(directory, kAufs, 0) != 0 && errno != ENOENT) return failed("unlinkat", kAufs);
    return {};
  }
  const std::string name = form == OpaqueForm::xattr ? prefix + "opaque" : kFuseOverlayfs;
  if (sys::removexattr(fd_name(directory).c_str(), name.c_str()) != 0 && errno != ENODATA)
    return failed("removexattr", name);
  return {};
}

Done set(int directory, const std::string& prefix) {
  auto before = opaque_mark(directory, prefix);
  if (!before) return BatchError(std::move(before).error());
  if (*before == Opaque::yes) return outcome(OpaqueForm::xattr);
  if (*before == Opaque::whiteouts)
    return BatchError({EINVAL, "setxattr", "overlay.opaque", {}, {}}, BatchRefusal::marked_x);
  auto marked = set_opaque_mark(directory, prefix, 'y');
  if (marked) return outcome(OpaqueForm::none);
  const auto why = marked.error().err == EOPNOTSUPP ? BatchRefusal::without_xattrs : BatchRefusal::none;
  return BatchError(std::move(marked).error(), why);
}

// Every form that it has: an opaque directory of one store may have been marked again by another.
Done clear_all(int directory, const std::string& prefix) {
  auto first = form_of(directory, prefix);
  for (auto form = first;; form = form_of(directory, prefix)) {
    if (!form) return BatchError(std::move(form).error());
    if (*form == OpaqueForm::none) return outcome(*first);
    if (auto cleared = clear(directory, *form, prefix); !cleared)
      return BatchError(std::move(cleared).error());
  }
}

}  // namespace

Result<Opaque> opaque_mark(int directory, const std::string& xattr_prefix) {
  const auto value = TRY(xattr_of(directory, xattr_prefix + "opaque"));
  return value ? read_opaque(*value) : Opaque::no;
}

Result<void> set_opaque_mark(int directory, const std::string& xattr_prefix, char mark) {
  const std::string name = xattr_prefix + "opaque";
  if (sys::setxattr(fd_name(directory).c_str(), name.c_str(), &mark, 1) != 0) return failed("setxattr", name);
  return {};
}

// From the top down, in a loop: a path may have more names than a stack has room for calls.
Result<bool> OpaqueAncestors::cover(std::string_view path) {
  bool covered = false;
  Fd at;
  for (size_t start = 0; start < path.size() && !covered;) {
    const size_t end = std::min(path.find('/', start), path.size());
    std::string above(path.substr(0, end < PATH_MAX ? end : 0));
    if (const auto known = known_.find(above); !above.empty() && known != known_.end()) {
      covered = known->second;
      at.reset();
    } else {
      const std::string name(path.substr(start, end - start));
      at = TRY(at ? open_beneath(at.get(), name, O_PATH | O_DIRECTORY)
                  : open_beneath(layer_, std::string(path.substr(0, end)), O_PATH | O_DIRECTORY));
      covered = TRY(opaque_mark(at.get(), prefix_)) == Opaque::yes;
      if (!above.empty()) known_.emplace(std::move(above), covered);
    }
    start = end + 1;
  }
  return covered;
}

Batch set_opaque(int layer, const std::vector<std::string>& paths, const std::string& xattr_prefix,
                 const Cancel& cancel) {
  return at_each_path(layer, paths, cancel, O_DIRECTORY, [&](const Fd& fd, size_t index) -> Done {
    if (paths[index].empty()) return BatchError({EINVAL, "setxattr", {}, {}, {}}, BatchRefusal::root);
    return set(fd.get(), xattr_prefix);
  });
}

Batch clear_opaque(int layer, const std::vector<std::string>& paths, const std::string& xattr_prefix,
                   const Cancel& cancel) {
  return at_each_path(layer, paths, cancel, O_DIRECTORY,
                      [&](const Fd& fd, size_t) { return clear_all(fd.get(), xattr_prefix); });
}

Batch opaque_forms(int layer, const std::vector<std::string>& paths, const std::string& xattr_prefix,
                   const Cancel& cancel) {
  return at_each_path(layer, paths, cancel, O_DIRECTORY, [&](const Fd& fd, size_t index) -> Done {
    auto form = paths[index].empty() ? foreign_form_of(fd.get()) : form_of(fd.get(), xattr_prefix);
    if (!form) return BatchError(std::move(form).error());
    return outcome(*form);
  });
}

}  // namespace overlayfs
