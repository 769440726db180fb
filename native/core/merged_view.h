// The merged tree, read from its layers with no mount. No symbolic link is followed: paths are names, one in
// the other, and a link is looked at itself.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "merged_lookup.h"
#include "xattr.h"

namespace overlayfs {

// A value, or why there is none: what the kernel would answer, and what it refuses where it does.
template <class T>
struct Viewed {
  std::optional<T> value;
  SysError error;
  std::optional<Refused> refused;

  Viewed(T got) : value(std::move(got)) {}
  Viewed(SysError why, std::optional<Refused> what = {}) : error(std::move(why)), refused(std::move(what)) {}
};

struct ListedName {
  std::string name;
  unsigned char type = 0;  // DT_*
  int err = 0;             // looking it up is refused: it is listed all the same
  abi::Statx status{};     // where it was asked for, and nothing is refused
};

class MergedView {
 public:
  explicit MergedView(MergedLayers layers) : layers_(std::move(layers)) {}

  const MergedLayers& layers() const { return layers_; }

  // In byte order. A whiteout that readdir(3) lists and lstat(2) does not find is left out.
  Viewed<std::vector<ListedName>> list(const std::string& path, bool with_status) const;
  Viewed<abi::Statx> status(const std::string& path) const;
  // The content of a regular file, readable; EISDIR, ELOOP and EINVAL for what is none.
  Viewed<Fd> open(const std::string& path) const;
  Viewed<std::string> link_target(const std::string& path) const;
  // As the overlay shows them: its own left out, escaped ones under their names.
  Viewed<std::vector<Xattr>> xattrs(const std::string& path) const;

  // The same of a directory that has been looked up.
  Result<std::vector<ListedName>> list(const MergedDirectory& directory, bool with_status) const;

 private:
  Viewed<MergedEntry> find(const std::string& path) const;
  Viewed<MergedDirectory> find_directory(const std::string& path) const;

  MergedLayers layers_;
};

}  // namespace overlayfs
