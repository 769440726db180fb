#include "changes.h"

#include "kernel.h"

// After kernel.h: it defines CTIME.
#include <dirent.h>

#include <atomic>
#include <functional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace twin {
namespace {

constexpr int kInDirectory = 1000;
constexpr unsigned kEverything = 0xfff;  // STATX_BASIC_STATS and STATX_BTIME
constexpr const char* kMetacopy = "trusted.overlay.metacopy";

struct XattrArgs {
  uint64_t value;
  uint32_t size, flags;
};

struct Names {
  std::vector<char> bytes = std::vector<char>(65536);
  std::vector<std::string> directories, others;
};

bool has_status(int directory, const char* name, abi::Statx* status) {
  const int flags = AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | (*name == 0 ? AT_EMPTY_PATH : 0);
  return syscall(SYS_statx, directory, name, flags, kEverything, status) == 0;
}
void list_xattrs(int directory, const char* name) {
  char names[1024];
  syscall(abi::SYS_LISTXATTRAT, directory, name, AT_SYMLINK_NOFOLLOW, names, sizeof names);
}
bool has_xattr(int directory, const char* name, const char* xattr) {
  char value[1024];
  const XattrArgs to{reinterpret_cast<uint64_t>(value), sizeof value, 0};
  return syscall(abi::SYS_GETXATTRAT, directory, name, AT_SYMLINK_NOFOLLOW, xattr, &to, sizeof to) >= 0;
}
void read_names(int directory, Names& names) {
  names.directories.clear();
  names.others.clear();
  must(::lseek(directory, 0, SEEK_SET), "lseek");
  while (const long size =
             must(syscall(SYS_getdents64, directory, names.bytes.data(), names.bytes.size()), "getdents64")) {
    for (long at = 0; at < size;) {
      const auto* entry = reinterpret_cast<const dirent64*>(names.bytes.data() + at);
      at += entry->d_reclen;
      const std::string_view name = entry->d_name;
      if (name == "." || name == "..") continue;
      (entry->d_type == DT_DIR ? names.directories : names.others).emplace_back(name);
    }
  }
}

// A directory that is merged with one of the lower, as its parent sees it.
void look_at_directory(int upper, int lower, const char* name, bool whole) {
  abi::Statx status;
  has_status(upper, name, &status);
  list_xattrs(upper, name);
  has_status(lower, name, &status);
  const abi::OpenHow how{O_PATH | O_DIRECTORY | O_CLOEXEC, 0,
                         abi::RESOLVE_BENEATH | abi::RESOLVE_NO_SYMLINKS | abi::RESOLVE_NO_XDEV};
  ::close(static_cast<int>(must(syscall(abi::SYS_OPENAT2, lower, name, &how, sizeof how), name)));
  if (whole) list_xattrs(lower, name);
}

void look_at(int upper, int lower, const char* name) {
  abi::Statx status, before;
  must(has_status(upper, name, &status) ? 0 : -1, name);
  const bool whiteout = S_ISCHR(status.mode) && status.rdev_major == 0 && status.rdev_minor == 0;
  if (!whiteout) list_xattrs(upper, name);
  if (!has_status(lower, name, &before)) return;
  has_xattr(lower, name, kMetacopy);
  if (!whiteout) list_xattrs(lower, name);
}

// The question whether what was copied up stands where it was.
void look_for_origin(int upper, int lower, const char* name) {
  if (!has_xattr(upper, name, "trusted.overlay.origin")) return;
  struct {
    ::file_handle head;
    unsigned char bytes[MAX_HANDLE_SZ];
  } handle{};
  handle.head.handle_bytes = MAX_HANDLE_SZ;
  int mount;
  must(::name_to_handle_at(lower, name, &handle.head, &mount, 0), "name_to_handle_at");
}

int open_upper(int above, const char* name) { return open_at(above, name, O_RDONLY | O_NOFOLLOW); }

void tell(int upper, int lower, Names& names) {
  abi::Statx status;
  has_status(upper, "", &status);
  read_names(upper, names);
  for (const std::string& name : names.others) look_at(upper, lower, name.c_str());
  has_status(upper, "", &status);
}

void search(int upper, int lower, Names& names) {
  read_names(upper, names);
  if (!has_xattr(upper, ".", "trusted.overlay.impure")) return;
  for (const std::string& name : names.others) look_for_origin(upper, lower, name.c_str());
}

// The directories of the root, shared out among threads.
void each_directory(int upper, int lower, int threads, void (*visit)(int, int, Names&)) {
  Names names;
  read_names(upper, names);
  std::atomic<size_t> next = 0;
  const auto share = [&] {
    Names own;
    for (size_t i = next++; i < names.directories.size(); i = next++) {
      const char* name = names.directories[i].c_str();
      look_at_directory(upper, lower, name, visit == tell);
      const int above = open_upper(upper, name), below = step_down(lower, name);
      abi::Statx status;
      has_status(above, "", &status);
      visit(above, below, own);
      ::close(above);
      ::close(below);
    }
  };
  std::vector<std::thread> others;
  for (int i = 1; i < threads; ++i) others.emplace_back(share);
  share();
  for (std::thread& other : others) other.join();
}

std::string in(const char* root, int directory) {
  return std::string(root) + "/d" + std::to_string(directory);
}

// A file that is a hole: a lower of a million takes no room for data.
void grow(const std::string& path, int flags, off_t size) {
  const int file =
      static_cast<int>(must(::open(path.c_str(), O_WRONLY | O_CLOEXEC | flags, 0644), path.c_str()));
  must(::ftruncate(file, size), "ftruncate");
  ::close(file);
}

}  // namespace

void make_lower(const Shape& shape) {
  for (int directory = 0; directory < shape.entries / kInDirectory; ++directory) {
    const std::string path = in("l0", directory);
    must(::mkdir(path.c_str(), 0755), path.c_str());
    for (int i = 0; i < kInDirectory; ++i) grow(path + "/f" + std::to_string(i), O_CREAT | O_EXCL, 1);
  }
}

void make_changes(const Shape& shape) {
  const int each = shape.changes == shape.entries ? kInDirectory : 10;
  const int directories = shape.changes / each, apart = shape.entries / kInDirectory / directories;
  for (int directory = 0; directory < directories; ++directory) {
    const std::string path = in("m0", directory * apart);
    for (int i = 0; i < each; ++i) {
      const std::string old = path + "/f" + std::to_string(i);
      if (i % 10 < 4) {
        grow(old, 0, 2);
      } else if (i % 10 < 6) {
        must(::unlink(old.c_str()), old.c_str());
      } else {
        grow(path + "/new" + std::to_string(i), O_CREAT | O_EXCL, 1);
      }
    }
  }
}

void walk_changes(const Shape& shape) {
  const int upper_path = open_path("u0"), lower = open_path("l0"), upper = open_upper(upper_path, ".");
  if (shape.renames) each_directory(upper, lower, shape.threads, search);
  each_directory(upper, lower, shape.threads, tell);
  for (const int fd : {upper_path, lower, upper}) ::close(fd);
}

}  // namespace twin
