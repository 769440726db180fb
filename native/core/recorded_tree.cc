#include "recorded_tree.h"

#include <fcntl.h>

#include <algorithm>
#include <memory>

#include "beneath.h"
#include "directory.h"
#include "proc.h"
#include "sys.h"

namespace overlayfs {
namespace {

constexpr size_t kMostPaths = 10;
constexpr int kDirectory = O_RDONLY | O_DIRECTORY;

int64_t nanoseconds(const timespec& time) { return time.tv_sec * 1'000'000'000 + time.tv_nsec; }

Result<Look> look_at(int parent, const std::string& name) {
  struct stat st {};
  if (sys::fstatat(parent, name.c_str(), &st, AT_SYMLINK_NOFOLLOW) != 0) return failed("fstatat", {}, name);
  return Look(st);
}

// A directory of our own whose mode may keep even us out.
Result<Fd> open_to_empty(int parent, const std::string& name) {
  Fd there = TRY(open_beneath(parent, name, O_PATH | O_DIRECTORY));
  const bool usable = sys::faccessat(there.get(), ".", R_OK | W_OK | X_OK) == 0;
  if (!usable && sys::chmod(fd_name(there.get()).c_str(), 0700) != 0) return failed("chmod", {}, name);
  return there;
}

class RecordRemover {
 public:
  void remove(int parent, const RecordedEntry& entry, const std::string& path) {
    auto now = look_at(parent, entry.name);
    if (!now) return keep(now.error(), path);
    if (entry.look.is_directory()) return remove_directory(parent, entry, path);
    // The removal of one name of a file changes what is known of its others.
    const bool is_same = entry.look.links > 1 ? now->same_but_for_links(entry.look) : *now == entry.look;
    if (!is_same) return keep(SysError{ESTALE, "fstatat", "it has been changed meanwhile", {}, {}}, path);
    unlink(parent, entry, path, 0);
  }

  Remains remains;

 private:
  void remove_directory(int parent, const RecordedEntry& entry, const std::string& path) {
    auto directory = open_beneath(parent, entry.name, O_PATH | O_DIRECTORY);
    if (!directory) return keep(directory.error(), path);
    for (const RecordedEntry& child : entry.children)
      remove(directory->get(), child, path + "/" + child.name);
    unlink(parent, entry, path, AT_REMOVEDIR);
  }

  void unlink(int parent, const RecordedEntry& entry, const std::string& path, int flags) {
    if (sys::unlinkat(parent, entry.name.c_str(), flags) == 0) return;
    SysError error = failed("unlinkat");
    // A directory that only holds what was kept is not worth a second line.
    const bool is_parent_of_kept = flags == AT_REMOVEDIR && error.err == ENOTEMPTY && remains.count > 0;
    if (!is_parent_of_kept) keep(error, path);
  }

  void keep(SysError& error, const std::string& path) { keep(std::move(error), path); }
  void keep(SysError&& error, const std::string& path) {
    if (error.err == ENOENT) return;
    ++remains.count;
    if (remains.paths.size() < kMostPaths) remains.paths.push_back(path);
    if (remains.why) return;
    error.path = path;
    remains.why = std::move(error);
  }
};

}  // namespace

Look::Look(const struct stat& st)
    : device(S_ISDIR(st.st_mode) ? 0 : st.st_dev),
      inode(S_ISDIR(st.st_mode) ? 0 : st.st_ino),
      links(st.st_nlink),
      size(static_cast<uint64_t>(st.st_size)),
      special(st.st_rdev),
      mode(st.st_mode),
      uid(st.st_uid),
      gid(st.st_gid),
      modified(nanoseconds(st.st_mtim)),
      changed(nanoseconds(st.st_ctim)) {}

bool Look::same_but_for_links(const Look& other) const {
  Look copy = other;
  copy.links = links;
  copy.changed = changed;
  return copy == *this;
}

Result<std::vector<std::string>> sorted_names(int directory) {
  const auto stream = std::make_unique<DirectoryStream>();
  stream->start(directory);
  std::vector<std::string> names;
  while (const char* name = stream->next()) names.emplace_back(name);
  if (stream->error() != 0) return SysError{stream->error(), "getdents64", {}, {}, {}};
  std::sort(names.begin(), names.end());
  return names;
}

Result<void> verify_tree(int parent, const RecordedEntry& tree, const std::string& path) {
  const SysError changed{ESTALE, "fstatat", "it has been changed meanwhile", path, {}};
  auto now = look_at(parent, tree.name);
  if (!now && now.error().err == ENOENT) return changed;
  if (!now) return std::move(now).error();
  if (!(*now == tree.look)) return changed;
  if (!tree.look.is_directory()) return {};
  const Fd directory = TRY(open_beneath(parent, tree.name, kDirectory));
  const std::vector<std::string> names = TRY(sorted_names(directory.get()));
  const auto same_name = [](const std::string& name, const RecordedEntry& child) {
    return name == child.name;
  };
  if (!std::equal(names.begin(), names.end(), tree.children.begin(), tree.children.end(), same_name))
    return changed;
  for (const RecordedEntry& child : tree.children)
    TRY(verify_tree(directory.get(), child, path + "/" + child.name));
  return {};
}

Remains remove_tree(int parent, const RecordedEntry& tree, const std::string& path) {
  RecordRemover remover;
  remover.remove(parent, tree, path);
  return std::move(remover.remains);
}

Result<void> remove_content(int any_directory) {
  // From its beginning, and as it is now: btrfs lists only what was there when a directory was opened.
  const Fd readable = TRY(reopen_readable(any_directory, {}));
  const int directory = readable.get();
  for (const std::string& name : TRY(sorted_names(directory))) {
    if (sys::unlinkat(directory, name.c_str(), 0) == 0) continue;
    if (errno != EISDIR) return failed("unlinkat", {}, name);
    TRY(remove_content(TRY(open_to_empty(directory, name)).get()));
    if (sys::unlinkat(directory, name.c_str(), AT_REMOVEDIR) != 0) return failed("unlinkat", {}, name);
  }
  return {};
}

}  // namespace overlayfs
