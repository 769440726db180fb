#include "layer_copy.h"

#include <fcntl.h>

#include <algorithm>
#include <array>
#include <map>
#include <utility>
#include <vector>

#include "beneath.h"
#include "copy_entry.h"
#include "directory.h"
#include "recorded_tree.h"
#include "sys.h"
#include "tree_path.h"
#include "xattr.h"

namespace overlayfs {
namespace {

// What an attribute of the kernel's means for whoever reads the layer; all others are about the upper that it
// was.
constexpr std::array kMeaningful = {"opaque", "redirect", "whiteout", "whiteouts"};

class LayerCopy {
 public:
  explicit LayerCopy(const LayerCopyOptions& options) : options_(options) {
    copying_.control.cancel = options.cancel;
    if (options.progress) copying_.control.copied = &options.progress->bytes;
  }

  Result<void> copy(int from, int to) {
    root_ = to;
    auto copied = fill(from, to, 0);
    if (copied) copied = take_metadata(from, to);
    if (!copied && copied.error().path.empty()) copied.error().path = path_;
    return copied;
  }

 private:
  // On an error, `path_` stays where it was met.
  Result<void> fill(int from, int to, size_t depth) {
    if (depth > kDeepestTree) return SysError{ENAMETOOLONG, "openat2", "it lies too deep", {}, {}};
    for (const std::string& name : TRY(sorted_names(from))) {
      const size_t length = path_.size();
      if (length != 0) path_ += '/';
      path_ += name;
      TRY(copy_one(from, to, name, depth));
      path_.resize(length);
      if (options_.progress) options_.progress->entries.fetch_add(1, std::memory_order_relaxed);
    }
    return {};
  }

  Result<void> copy_one(int from_parent, int to_parent, const std::string& name, size_t depth) {
    if (cancelled(options_.cancel)) return SysError{ECANCELED, "openat2", "aborted", {}, {}};
    const Source from = TRY(open_source(TRY(open_beneath(from_parent, name, O_PATH))));
    if (S_ISDIR(from.stat.st_mode)) return copy_directory(from, to_parent, name, depth);
    if (from.stat.st_nlink > 1 && TRY(link_to_copy(from, to_parent, name))) return {};
    CopyOptions copying = copying_;
    copying.metadata = TRY(metadata_of(from.fd.get()));
    copying.staging = root_;
    return took_all(TRY(copy_entry(from, to_parent, name, copying)).dropped);
  }

  Result<void> copy_directory(const Source& from, int to_parent, const std::string& name, size_t depth) {
    if (sys::mkdirat(to_parent, name.c_str(), 0700) != 0) return failed("mkdirat");
    const Fd made = TRY(open_beneath(to_parent, name, O_RDONLY | O_DIRECTORY));
    TRY(fill(from.fd.get(), made.get(), depth + 1));
    return take_metadata(from.fd.get(), made.get());
  }

  Result<void> take_metadata(int from, int to) {
    struct stat st {};
    if (sys::fstatat(from, "", &st, AT_EMPTY_PATH) != 0) return failed("fstatat");
    return took_all(TRY(copy_metadata({from, false}, {to, false}, st, TRY(metadata_of(from)))));
  }

  Result<MetadataOptions> metadata_of(int from) {
    MetadataOptions metadata;
    metadata.private_prefix = options_.xattr_prefix;
    for (Xattr& attribute : TRY(xattrs_of(from, options_.xattr_prefix))) {
      const std::string meaning = attribute.first.substr(options_.xattr_prefix.size());
      if (meaning == "metacopy")
        return SysError{EOPNOTSUPP, "getxattr", "its data lies in another layer (metacopy)", {}, {}};
      if (std::find(kMeaningful.begin(), kMeaningful.end(), meaning) != kMeaningful.end())
        metadata.extra.push_back(std::move(attribute));
    }
    return metadata;
  }

  static Result<void> took_all(const std::vector<std::string>& dropped) {
    if (!dropped.empty()) return SysError{EOPNOTSUPP, "setxattr", dropped.front(), {}, {}};
    return {};
  }

  // The first name of an inode is copied, the others are linked to that.
  Result<bool> link_to_copy(const Source& from, int to, const std::string& name) {
    const auto [found, is_new] = linked_.try_emplace({from.stat.st_dev, from.stat.st_ino}, path_);
    if (is_new) return false;
    const Place first = TRY(place_beneath(root_, found->second));
    if (sys::linkat(first.parent.get(), first.name.c_str(), to, name.c_str(), 0) == 0) return true;
    if (errno != EMLINK) return failed("linkat");
    found->second = path_;  // the next ones are linked to this
    return false;
  }

  const LayerCopyOptions& options_;
  CopyOptions copying_;
  int root_ = -1;
  std::string path_;
  std::map<std::pair<dev_t, ino_t>, std::string> linked_;
};

}  // namespace

Result<void> copy_layer(int from, int to, const LayerCopyOptions& options) {
  return LayerCopy(options).copy(from, to);
}

}  // namespace overlayfs
