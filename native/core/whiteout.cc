#include "whiteout.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <atomic>
#include <memory>

#include "directory.h"
#include "opaque.h"
#include "proc.h"
#include "sys.h"
#include "xattr.h"

namespace overlayfs {
namespace {

constexpr const char* kAufsPrefix = ".wh.";

char outcome(WhiteoutMade made) { return static_cast<char>(made); }
char outcome(WhiteoutForm form) { return static_cast<char>(form); }

bool is_on_overlay(int fd) {
  struct statfs statfs {};
  return sys::fstatfs(fd, &statfs) == 0 && static_cast<int64_t>(statfs.f_type) == abi::OVERLAYFS_SUPER_MAGIC;
}

// overlayfs answers EPERM to mknod(2) of a whiteout, and EINVAL to RENAME_WHITEOUT.
BatchError explain(SysError error, int directory) {
  const bool refused = error.err == EPERM || error.err == EINVAL;
  const BatchRefusal why = refused && is_on_overlay(directory) ? BatchRefusal::on_overlay
                           : error.err == EOPNOTSUPP && error.call == std::string_view("fsetxattr")
                               ? BatchRefusal::without_xattrs
                               : BatchRefusal::none;
  return {std::move(error), why};
}

BatchError in_opaque(std::string_view directory) {
  return {{EINVAL, "getxattr", "overlay.opaque", std::string(directory), {}}, BatchRefusal::in_opaque};
}

Result<bool> is_directory_with_content(int directory, const std::string& name) {
  const Fd opened(sys::openat(directory, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_NONBLOCK));
  if (!opened && (errno == ENOTDIR || errno == ELOOP)) return false;
  if (!opened) return failed("openat", "O_DIRECTORY", name);
  const auto entries = std::make_unique<DirectoryStream>();
  entries->start(opened.get());
  return entries->next() != nullptr;
}

// What stands at this name; none also where nothing does.
Result<WhiteoutForm> form_of(int directory, const std::string& name, const std::string& xattr_prefix) {
  struct stat st {};
  if (sys::fstatat(directory, name.c_str(), &st, AT_SYMLINK_NOFOLLOW) != 0) {
    if (errno != ENOENT) return failed("fstatat", name);
    if (sys::fstatat(directory, (kAufsPrefix + name).c_str(), &st, AT_SYMLINK_NOFOLLOW) == 0)
      return WhiteoutForm::aufs;
    if (errno != ENOENT && errno != ENAMETOOLONG) return failed("fstatat", kAufsPrefix + name);
    return WhiteoutForm::none;
  }
  if (S_ISCHR(st.st_mode) && st.st_rdev == 0) return WhiteoutForm::device;
  if (!S_ISREG(st.st_mode) || st.st_size != 0) return WhiteoutForm::none;
  const Fd file = TRY(open_beneath(directory, name, O_PATH));
  return TRY(xattr_of(file.get(), xattr_prefix + "whiteout")) ? WhiteoutForm::xattr : WhiteoutForm::none;
}

// Makes whiteouts one after the other, and keeps the last one made for others to be linked to.
class Maker {
 public:
  Maker(const WhiteoutOrder& order) : order_(order) {}

  Done make(int directory, const std::string& name) {
    auto made = put(directory, name);
    if (made) return outcome(*made);
    if (made.error().err != EEXIST) return explain(std::move(made).error(), directory);
    auto standing = form_of(directory, name, order_.xattr_prefix);
    if (!standing) return BatchError(std::move(standing).error());
    if (*standing == order_.form || *standing == WhiteoutForm::device) return outcome(WhiteoutMade::present);
    if (!order_.replace) return BatchError(std::move(made).error());
    if (auto replaced = replace(directory, name); !replaced)
      return explain(std::move(replaced).error(), directory);
    return outcome(WhiteoutMade::replaced);
  }

 private:
  Result<WhiteoutMade> put(int directory, const std::string& name) {
    if (order_.share && shared_) {
      if (sys::linkat(AT_FDCWD, fd_name(shared_.get()).c_str(), directory, name.c_str(), AT_SYMLINK_FOLLOW) ==
          0)
        return WhiteoutMade::linked;
      if (errno == EEXIST) return failed("linkat", {}, name);
      shared_.reset();  // EMLINK, EXDEV between btrfs's subvolumes, EPERM: from here on another is shared
    }
    TRY(order_.form == WhiteoutForm::device ? put_device(directory, name) : put_file(directory, name));
    return WhiteoutMade::made;
  }

  Result<void> put_device(int directory, const std::string& name) {
    if (sys::mknodat(directory, name.c_str(), S_IFCHR, 0) != 0)
      return failed("mknodat", "S_IFCHR, 0:0", name);
    if (order_.share) {
      // O_PATH: a device is never opened. Without it nothing is shared.
      shared_ = Fd(sys::openat(directory, name.c_str(), O_PATH | O_NOFOLLOW));
      struct stat st {};
      const bool ours = shared_ && sys::fstatat(shared_.get(), "", &st, AT_EMPTY_PATH) == 0 &&
                        S_ISCHR(st.st_mode) && st.st_rdev == 0;
      if (!ours) shared_.reset();
    }
    return {};
  }

  // Without a name until it is a whiteout; with one at once where the file system has no O_TMPFILE.
  Result<void> put_file(int directory, const std::string& name) {
    Fd file(sys::openat(directory, ".", O_TMPFILE | O_WRONLY, 0644));
    const bool named = !file && (errno == EOPNOTSUPP || errno == EISDIR);
    if (named)
      file = Fd(sys::openat(directory, name.c_str(), O_CREAT | O_EXCL | O_WRONLY | O_NOFOLLOW, 0644));
    if (!file) return failed("openat", named ? "O_CREAT | O_EXCL" : "O_TMPFILE", name);
    const std::string attribute = order_.xattr_prefix + "whiteout";
    if (sys::fsetxattr(file.get(), attribute.c_str(), "y", 1) != 0) {
      SysError error = failed("fsetxattr", attribute, name);
      if (named) sys::unlinkat(directory, name.c_str(), 0);
      return error;
    }
    const std::string path = fd_name(file.get());
    if (!named && sys::linkat(AT_FDCWD, path.c_str(), directory, name.c_str(), AT_SYMLINK_FOLLOW) != 0)
      return failed("linkat", {}, name);
    if (order_.share) shared_ = std::move(file);
    return {};
  }

  // A whiteout under another name changes places with what stands there, in one step; what has come out is
  // removed, and put back if something has been made in it meanwhile.
  Result<void> replace(int directory, const std::string& name) {
    if (TRY(is_directory_with_content(directory, name)))
      return SysError{ENOTEMPTY, "mknodat", "a directory with content", name, {}};
    static std::atomic<unsigned> count{0};
    std::string aside;
    while (true) {
      aside = ".overlayfs-whiteout-" + std::to_string(::getpid()) + "-" + std::to_string(++count);
      auto made = put(directory, aside);
      if (made) break;
      if (made.error().err != EEXIST) return std::move(made).error();
    }
    const auto exchange = [&] {
      return sys::renameat2(directory, aside.c_str(), directory, name.c_str(), abi::rename_flag::EXCHANGE) ==
             0;
    };
    if (!exchange()) {
      SysError error = failed("renameat2", "RENAME_EXCHANGE", name);
      sys::unlinkat(directory, aside.c_str(), 0);
      return error;
    }
    if (sys::unlinkat(directory, aside.c_str(), 0) == 0) return {};
    if (sys::unlinkat(directory, aside.c_str(), AT_REMOVEDIR) == 0) return {};
    SysError error = failed("unlinkat", "AT_REMOVEDIR", name);
    if (exchange()) sys::unlinkat(directory, aside.c_str(), 0);
    return error;
  }

  const WhiteoutOrder& order_;
  Fd shared_;
};

// The mark that the xattr form needs, taken away again if no whiteout came of it.
class Mark {
 public:
  explicit Mark(const std::string& prefix) : prefix_(prefix) {}
  Mark(const Mark&) = delete;
  Mark& operator=(const Mark&) = delete;
  ~Mark() { take_back(); }

  std::optional<BatchError> set(const Directory& directory, Opaque before) {
    take_back();
    if (before == Opaque::whiteouts) return {};
    auto marked = set_opaque_mark(directory.fd.get(), prefix_, 'x');
    if (!marked) {
      const auto why = marked.error().err == EOPNOTSUPP ? BatchRefusal::without_xattrs : BatchRefusal::none;
      return BatchError(std::move(marked).error(), why);
    }
    unused_ = Fd(sys::dup_fd(directory.fd.get()));
    return {};
  }
  void used() { unused_.reset(); }

 private:
  void take_back() {
    if (unused_) sys::removexattr(fd_name(unused_.get()).c_str(), (prefix_ + "opaque").c_str());
    unused_.reset();
  }
  const std::string& prefix_;
  Fd unused_;
};

// The directory's own mark, unless it or one above it is opaque.
Result<Opaque> mark_outside_opaque(OpaqueAncestors& ancestors, std::string_view path, int directory,
                                   const std::string& xattr_prefix) {
  const Opaque mark = TRY(opaque_mark(directory, xattr_prefix));
  if (path.empty()) return mark == Opaque::yes ? Opaque::no : mark;
  return TRY(ancestors.cover(split_path(path).first)) ? Opaque::yes : mark;
}

}  // namespace

Batch create_whiteouts(int layer, const WhiteoutOrder& order, const Cancel& cancel) {
  OpaqueAncestors ancestors(layer, order.xattr_prefix);
  Mark mark(order.xattr_prefix);
  Maker maker(order);
  const auto enter = [&](const Directory& directory) -> std::optional<BatchError> {
    auto before = mark_outside_opaque(ancestors, directory.path, directory.fd.get(), order.xattr_prefix);
    if (!before) return BatchError(std::move(before).error());
    if (*before == Opaque::yes) return in_opaque(directory.path);
    if (order.form == WhiteoutForm::device) return {};
    return mark.set(directory, *before);
  };
  return in_each_directory(layer, order.paths, cancel, enter,
                           [&](const Directory& directory, const std::string& name) {
                             Done done = maker.make(directory.fd.get(), name);
                             if (std::holds_alternative<char>(done)) mark.used();
                             return done;
                           });
}

Batch whiteout_forms(int layer, const std::vector<std::string>& paths, const std::string& xattr_prefix,
                     const Cancel& cancel) {
  return in_each_directory(
      layer, paths, cancel, [](const Directory&) { return std::nullopt; },
      [&](const Directory& directory, const std::string& name) -> Done {
        auto form = form_of(directory.fd.get(), name, xattr_prefix);
        if (!form) return BatchError(std::move(form).error());
        return outcome(*form);
      },
      outcome(WhiteoutForm::none));
}

Batch remove_whiteouts(int layer, const std::vector<std::string>& paths, const std::string& xattr_prefix,
                       const Cancel& cancel) {
  return in_each_directory(
      layer, paths, cancel, [](const Directory&) { return std::nullopt; },
      [&](const Directory& directory, const std::string& name) -> Done {
        auto form = form_of(directory.fd.get(), name, xattr_prefix);
        if (!form) return BatchError(std::move(form).error());
        if (*form == WhiteoutForm::none)
          return BatchError({EINVAL, "unlinkat", {}, name, {}}, BatchRefusal::not_whiteout);
        const std::string entry = (*form == WhiteoutForm::aufs ? kAufsPrefix : "") + name;
        if (sys::unlinkat(directory.fd.get(), entry.c_str(), 0) != 0)
          return BatchError(failed("unlinkat", {}, name));
        return outcome(*form);
      });
}

std::optional<BatchError> rename_with_whiteout(int layer, const std::string& from, const std::string& to,
                                               bool replace, const std::string& xattr_prefix) {
  auto source = place_beneath(layer, from);
  if (!source) return BatchError(std::move(source).error());
  auto target = place_beneath(layer, to);
  if (!target) {
    BatchError failure(std::move(target).error());
    failure.index = 1;
    return failure;
  }
  const std::string_view parent = split_path(from).first;
  OpaqueAncestors ancestors(layer, xattr_prefix);
  auto mark = mark_outside_opaque(ancestors, parent, source->parent.get(), xattr_prefix);
  if (!mark) return BatchError(std::move(mark).error());
  if (*mark == Opaque::yes) return in_opaque(parent);
  const unsigned flags = abi::rename_flag::WHITEOUT | (replace ? 0 : abi::rename_flag::NOREPLACE);
  if (sys::renameat2(source->parent.get(), source->name.c_str(), target->parent.get(), target->name.c_str(),
                     flags) != 0)
    return explain(failed("renameat2", "RENAME_WHITEOUT", from), source->parent.get());
  return {};
}

}  // namespace overlayfs
