// What lies in a store, as lib/store reads it: by names below the root, the current directory.
#pragma once

#include <string>
#include <vector>

#include "kernel.h"

namespace twin {

constexpr uint64_t kBeneath = abi::RESOLVE_BENEATH | abi::RESOLVE_NO_SYMLINKS | abi::RESOLVE_NO_XDEV;
constexpr int kUnfollowed = AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT;
constexpr const char* kOwn = ".overlayfs";

struct Dirent64 {
  uint64_t ino;
  int64_t off;
  uint16_t reclen;
  uint8_t type;
  char name[];
};

inline int root() {
  static const int opened = open_path(".");
  return opened;
}

inline std::string layer_name(int index) {
  char name[65];
  std::snprintf(name, sizeof name, "%064d", index);
  return name;
}

constexpr uint64_t kPath = O_PATH | O_DIRECTORY, kReadable = O_RDONLY | O_DIRECTORY;

inline int try_beneath(int directory, const std::string& path, uint64_t flags = kPath) {
  const abi::OpenHow how{flags | O_CLOEXEC, 0, kBeneath};
  return static_cast<int>(syscall(abi::SYS_OPENAT2, directory, path.c_str(), &how, sizeof how));
}
inline int beneath(const std::string& path, uint64_t flags = kPath) {
  return static_cast<int>(must(try_beneath(root(), path, flags), path.c_str()));
}

// The directory that a path lies in, and its name there.
struct Place {
  explicit Place(const std::string& path) {
    const size_t slash = path.rfind('/');
    name = slash == std::string::npos ? path : path.substr(slash + 1);
    parent = beneath(slash == std::string::npos ? "." : path.substr(0, slash));
  }
  Place(const Place&) = delete;
  Place& operator=(const Place&) = delete;
  ~Place() { ::close(parent); }

  int parent;
  std::string name;
};

inline std::string read_file(int parent, const char* name) {
  static char buffer[65536];
  constexpr int flags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
  const int file = static_cast<int>(must(::openat(parent, name, flags), name));
  std::string bytes;
  while (const long size = must(::read(file, buffer, sizeof buffer), name))
    bytes.append(buffer, static_cast<size_t>(size));
  ::close(file);
  return bytes;
}

inline std::string look(int parent, const char* name) {
  struct stat st;
  if (::fstatat(parent, name, &st, kUnfollowed) != 0) return {};
  if (S_ISREG(st.st_mode) && st.st_size != 0) return read_file(parent, name);
  if (!S_ISLNK(st.st_mode)) return {};
  char target[4096];
  return {target, static_cast<size_t>(must(::readlinkat(parent, name, target, sizeof target), name))};
}

// What `link` and `lower` say is what a layer on top of it needs.
struct Layer {
  explicit Layer(const std::string& id) {
    const int directory = try_beneath(root(), id);
    if (directory < 0) return;
    for (const char* name : {"diff", "lower-layers", "committed", "empty", "work", "overlayfs.json"})
      look(directory, name);
    link = look(directory, "link");
    lower = look(directory, "lower");
    ::close(directory);
  }

  std::string link, lower;
};

inline int lock(const std::string& path, int kind) {
  const int locked = beneath(path, kReadable);
  must(::flock(locked, kind | LOCK_NB), "flock");
  const int named = beneath(path);
  identify(locked);
  identify(named);
  ::close(named);
  return locked;
}

template <class Each>
void each_entry(int directory, size_t room, Each each) {
  static char buffer[65536];
  while (const long size = must(syscall(SYS_getdents64, directory, buffer, room), "getdents64")) {
    for (long at = 0; at < size;) {
      const auto& entry = *reinterpret_cast<const Dirent64*>(buffer + at);
      at += entry.reclen;
      if (std::strcmp(entry.name, ".") != 0 && std::strcmp(entry.name, "..") != 0) each(entry);
    }
  }
}

inline std::vector<std::string> names_in(int directory) {
  std::vector<std::string> names;
  each_entry(directory, 32768, [&](const Dirent64& entry) { names.emplace_back(entry.name); });
  return names;
}

// Directories that hold something are moved up to the top, as the package does.
}  // namespace twin
