// The target of applyChanges(): a plain directory, reached by names alone; nothing in it leads out, and
// nothing mounted in it is entered.
#pragma once

#include <string>
#include <vector>

#include "apply_seen.h"
#include "directory.h"
#include "fd.h"
#include "result.h"

namespace overlayfs {

bool is_below(const std::string& path, const std::string& directory);  // not itself

class TargetTree {
 public:
  static Result<TargetTree> open(const DirectoryRef& ref);

  int root() const { return root_.get(); }
  const DirectoryIdentity& identity() const { return identity_; }
  // An O_PATH descriptor of a directory; the last one is kept open, until forget().
  Result<int> directory(const std::string& path);
  void forget() { last_.reset(); }
  // An O_PATH descriptor of an entry; ENOENT. The root is empty.
  Result<Fd> entry(const std::string& path);
  // Whether something is mounted there or below it: what must not be moved or removed.
  bool holds_mount(const std::string& path) const;
  // What is compared, as it is before that.
  SeenEntries& seen() { return seen_; }

 private:
  Fd root_;  // readable, and locked
  DirectoryIdentity identity_;
  Fd last_;
  std::string last_path_;
  std::vector<std::string> mounts_;  // below the root
  SeenEntries seen_;
};

}  // namespace overlayfs
