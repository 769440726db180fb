#include "merged_links.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <map>
#include <optional>
#include <string>
#include <utility>

#include "beneath.h"
#include "copy_entry.h"
#include "sys.h"

namespace overlayfs {
namespace {

constexpr size_t kDeepest = 2048;  // deeper than any path leads: PATH_MAX

class MergedLinks {
 public:
  MergedLinks(const MergedView& view, const MergedLinksOptions& options)
      : view_(view), layers_(view.layers()), options_(options) {
    copying_.metadata.private_prefix = layers_.stack().xattr_prefix();
    copying_.control.cancel = options.cancel;
    if (options.progress) copying_.control.copied = &options.progress->bytes;
  }

  Viewed<bool> link(int to) {
    root_ = to;
    copying_.staging = to;
    auto linked = fill(layers_.root(), to, 0);
    if (linked) return true;
    if (linked.error().path.empty()) linked.error().path = path_;
    return {linked.error(), refused_};
  }

 private:
  // On an error, `path_` stays where it was met.
  Result<void> fill(const MergedDirectory& from, int to, size_t depth) {
    if (depth > kDeepest) return SysError{ENAMETOOLONG, "openat2", "it lies too deep", {}, {}};
    for (const ListedName& listed : TRY(view_.list(from, false))) {
      const size_t length = path_.size();
      if (length != 0) path_ += '/';
      path_ += listed.name;
      TRY(place(from, to, listed.name, depth));
      path_.resize(length);
      if (options_.progress) options_.progress->entries.fetch_add(1, std::memory_order_relaxed);
    }
    return take_metadata(from.front().fd->get(), to);
  }

  Result<void> place(const MergedDirectory& from, int to, const std::string& name, size_t depth) {
    if (cancelled(options_.cancel)) return SysError{ECANCELED, "linkat", "aborted", {}, {}};
    const MergedEntry entry = TRY(layers_.lookup(from, name));
    if (entry.refused) {
      refused_ = entry.refused;
      return SysError{entry.refused->err, "lookup", {}, {}, {}};
    }
    if (!entry.exists()) return {};
    if (!entry.is_directory()) return link_entry(entry.entry(), to, name);
    if (sys::mkdirat(to, name.c_str(), 0700) != 0) return failed("mkdirat");
    const Fd made = TRY(open_beneath(to, name, O_RDONLY | O_DIRECTORY));
    return fill(entry.directory(), made.get(), depth + 1);
  }

  Result<void> link_entry(const LayerEntry& from, int to, const std::string& name) {
    if (sys::linkat(from.parent.fd->get(), from.name.c_str(), to, name.c_str(), 0) == 0) return {};
    if (errno != EMLINK && errno != EPERM && errno != EXDEV) return failed("linkat");
    const Source source = TRY(open_source(TRY(open_beneath(from.parent.fd->get(), from.name, O_PATH))));
    if (source.stat.st_nlink > 1 && TRY(link_to_copy(source, to, name))) return {};
    const CopiedEntry copied = TRY(copy_entry(source, to, name, copying_));
    if (!copied.dropped.empty()) return SysError{EOPNOTSUPP, "setxattr", copied.dropped.front(), {}, {}};
    return {};
  }

  // The first name of an inode is copied, the others are linked to that.
  Result<bool> link_to_copy(const Source& from, int to, const std::string& name) {
    const auto [found, is_new] = copies_.try_emplace({from.stat.st_dev, from.stat.st_ino}, path_);
    if (is_new) return false;
    const Place first = TRY(place_beneath(root_, found->second));
    if (sys::linkat(first.parent.get(), first.name.c_str(), to, name.c_str(), 0) == 0) return true;
    found->second = path_;  // the next ones are linked to this
    return false;
  }

  Result<void> take_metadata(int from, int to) {
    struct stat st {};
    if (sys::fstatat(from, "", &st, AT_EMPTY_PATH) != 0) return failed("fstatat");
    const auto dropped = TRY(copy_metadata({from, true}, {to, false}, st, copying_.metadata));
    if (!dropped.empty()) return SysError{EOPNOTSUPP, "setxattr", dropped.front(), {}, {}};
    return {};
  }

  const MergedView& view_;
  const MergedLayers& layers_;
  const MergedLinksOptions& options_;
  CopyOptions copying_;
  int root_ = -1;
  std::string path_;
  std::optional<Refused> refused_;
  std::map<std::pair<dev_t, ino_t>, std::string> copies_;
};

}  // namespace

Viewed<bool> link_merged(const MergedView& view, int to, const MergedLinksOptions& options) {
  return MergedLinks(view, options).link(to);
}

}  // namespace overlayfs
