#include "layer_usage.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "fd.h"
#include "proc.h"
#include "sys.h"
#include "tree_path.h"

namespace overlayfs {
namespace {

constexpr uint64_t kUnit = 512;  // the unit of st_blocks
// linux/fiemap.h, for older headers.
struct Extent {
  uint64_t logical, physical, length;
  uint64_t reserved64[2];
  uint32_t flags;
  uint32_t reserved[3];
};
constexpr uint32_t kExtents = 128, kLast = 0x1, kShared = 0x2000;
struct ExtentMap {
  uint64_t start = 0, length = ~uint64_t{0};
  uint32_t flags = 0, mapped = 0, room = kExtents, reserved = 0;
  std::array<Extent, kExtents> extents{};
};
constexpr unsigned long FS_IOC_FIEMAP = 0xc020660b;

// Bytes in extents that other files share. What the file system does not tell is none.
uint64_t shared_bytes(int directory, const char* name) {
  const Fd file(sys::openat(directory, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOATIME));
  if (!file) return 0;
  uint64_t bytes = 0;
  const auto map = std::make_unique<ExtentMap>();
  while (true) {
    map->mapped = 0;
    if (sys::ioctl(file.get(), FS_IOC_FIEMAP, map.get()) != 0 || map->mapped == 0) return bytes;
    for (uint32_t i = 0; i < map->mapped; ++i) {
      const Extent& extent = map->extents[i];
      if ((extent.flags & kShared) != 0) bytes += extent.length;
      if ((extent.flags & kLast) != 0) return bytes;
      map->start = extent.logical + extent.length;
    }
  }
}

class UsageWalk {
 public:
  UsageWalk(bool shared, const Cancel& cancel) : shared_(shared), cancel_(cancel) {}

  Result<LayerUsage> measure(int directory, int tree) {
    TRY(start(directory));
    in_tree_ = true;
    if (tree >= 0) TRY(start(tree));
    for (const auto& [inode, links] : linked_) {
      if (links.left > 0) usage_.hard_linked += links.allocated;
    }
    return usage_;
  }

 private:
  struct Links {
    uint64_t left = 0, allocated = 0;  // names that have not been met, bytes on disk
  };

  Result<void> start(int directory) {
    struct stat st {};
    if (sys::fstatat(directory, "", &st, AT_EMPTY_PATH) != 0) return failed("fstatat");
    device_ = st.st_dev;
    count(st);
    return enter(directory, 0);
  }

  Result<void> enter(int directory, size_t depth) {
    if (depth > kDeepestTree) return SysError{ENAMETOOLONG, "openat", "it lies too deep", path_, {}};
    const auto stream = std::make_unique<DirectoryStream>();
    stream->start(directory);
    while (const char* name = stream->next()) TRY(look(directory, name, depth));
    if (stream->error() != 0) return SysError{stream->error(), "getdents64", {}, path_, {}};
    return cancelled(cancel_) ? Result<void>(SysError{ECANCELED, "getdents64", "aborted", {}, {}})
                              : Result<void>();
  }

  Result<void> look(int directory, const char* name, size_t depth) {
    struct stat st {};
    if (sys::fstatat(directory, name, &st, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT) != 0) {
      if (errno == ENOENT) return {};  // removed meanwhile
      return failed("fstatat", {}, path_ + name);
    }
    if (st.st_dev != device_) return {};
    if (!count(st)) return {};
    if (shared_ && S_ISREG(st.st_mode) && st.st_blocks != 0)
      usage_.reflinked +=
          std::min(shared_bytes(directory, name), static_cast<uint64_t>(st.st_blocks) * kUnit);
    if (!S_ISDIR(st.st_mode)) return {};
    const Fd inner(sys::openat(directory, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_NOATIME));
    if (!inner && errno == ENOENT) return {};
    if (!inner) return failed("openat", {}, path_ + name);
    const size_t length = path_.size();
    path_.append(name) += '/';
    TRY(enter(inner.get(), depth + 1));
    path_.resize(length);
    return {};
  }

  // False: another name of it has been counted, or it is somebody else's.
  bool count(const struct stat& st) {
    const uint64_t allocated = static_cast<uint64_t>(st.st_blocks) * kUnit;
    if (!S_ISDIR(st.st_mode) && st.st_nlink > 1) {
      if (in_tree_ && !linked_.contains(st.st_ino)) return false;
      const auto [found, is_new] = linked_.try_emplace(st.st_ino, Links{st.st_nlink, allocated});
      --found->second.left;
      if (!is_new) return false;
    }
    ++usage_.inodes;
    usage_.allocated += allocated;
    if (!S_ISDIR(st.st_mode)) usage_.apparent += static_cast<uint64_t>(st.st_size);
    return true;
  }

  bool shared_, in_tree_ = false;
  const Cancel& cancel_;
  dev_t device_ = 0;
  std::string path_;
  std::unordered_map<ino_t, Links> linked_;
  LayerUsage usage_;
};

}  // namespace

Result<LayerUsage> measure_layer(int directory, int tree, bool shared, const Cancel& cancel) {
  return UsageWalk(shared, cancel).measure(directory, tree);
}

}  // namespace overlayfs
