#include "remove_tree.h"

#include <dirent.h>
#include <fcntl.h>

#include <vector>

#include "beneath.h"
#include "proc.h"
#include "rename.h"
#include "sys.h"

namespace overlayfs {
namespace {

// Directories that hold something are moved up to `top` until they are empty: no descriptor and no path is
// needed for each level of a tree that may be thousands deep.
class TreeRemover {
 public:
  explicit TreeRemover(int top) : top_(top) {}

  Result<void> empty(int directory) {
    TRY(empty_one(directory));
    while (!waiting_.empty()) {
      const std::string name = std::move(waiting_.back());
      waiting_.pop_back();
      const Fd inner = TRY(open_beneath(top_, name, O_RDONLY | O_DIRECTORY));
      TRY(empty_one(inner.get()));
      if (sys::unlinkat(top_, name.c_str(), AT_REMOVEDIR) != 0)
        return failed("unlinkat", "AT_REMOVEDIR", name);
    }
    return {};
  }

 private:
  Result<void> empty_one(int directory) {
    std::vector<std::string> names;
    DirectoryStream stream;
    stream.start(directory);
    while (const char* name = stream.next()) names.emplace_back(name);
    if (stream.error() != 0) return SysError{stream.error(), "getdents64", {}, {}, {}};
    for (const std::string& name : names) TRY(remove_one(directory, name));
    return {};
  }

  Result<void> remove_one(int directory, const std::string& name) {
    if (sys::unlinkat(directory, name.c_str(), 0) == 0 || errno == ENOENT) return {};
    if (errno != EISDIR) return failed("unlinkat", {}, name);
    if (sys::unlinkat(directory, name.c_str(), AT_REMOVEDIR) == 0) return {};
    if (errno != ENOTEMPTY && errno != EEXIST) return failed("unlinkat", "AT_REMOVEDIR", name);
    std::string moved = "#" + std::to_string(count_++);
    auto done = rename_noreplace({directory, name}, {top_, moved});
    if (!done && done.error().err == EEXIST) return remove_one(directory, name);  // the next number
    if (done) waiting_.push_back(std::move(moved));
    return done;
  }

  int top_;
  uint64_t count_ = 0;
  std::vector<std::string> waiting_;
};

}  // namespace

Result<void> remove_tree(int parent, const std::string& name) {
  if (sys::unlinkat(parent, name.c_str(), 0) == 0 || errno == ENOENT) return {};
  if (errno != EISDIR) return failed("unlinkat", {}, name);
  const Fd top = TRY(open_beneath(parent, name, O_RDONLY | O_DIRECTORY));
  TRY(TreeRemover(top.get()).empty(top.get()));
  if (sys::unlinkat(parent, name.c_str(), AT_REMOVEDIR) != 0) return failed("unlinkat", "AT_REMOVEDIR", name);
  return {};
}

}  // namespace overlayfs
