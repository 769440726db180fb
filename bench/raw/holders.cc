#include "holders.h"

#include <dirent.h>

#include <initializer_list>

#include "kernel.h"

namespace twin {
namespace {

struct Mount {
  uint64_t id, device;
};

Mount mount_of(int directory, const char* name, int flags) {
  abi::Statx stx;
  if (syscall(SYS_statx, directory, name, flags, abi::statx_mask::INO | abi::statx_mask::MNT_ID, &stx) != 0) {
    return {0, 0};
  }
  return {stx.mnt_id, uint64_t{stx.dev_major} << 32 | stx.dev_minor};
}

template <class Each>
void each_entry(int directory, Each each) {
  alignas(8) char buffer[32768];
  long size;
  while ((size = syscall(SYS_getdents64, directory, buffer, sizeof buffer)) > 0) {
    for (long at = 0; at < size;) {
      const auto* entry = reinterpret_cast<const dirent64*>(buffer + at);
      at += entry->d_reclen;
      if (entry->d_name[0] >= '0' && entry->d_name[0] <= '9') each(entry->d_name);
    }
  }
}

// The device and inode columns of every line; the kernel hands out whole lines.
int count_maps(int process, uint64_t device) {
  const int file = ::openat(process, "maps", O_RDONLY | O_CLOEXEC);
  if (file < 0) return 0;
  static char text[16384];
  int count = 0;
  long size;
  while ((size = ::read(file, text, sizeof text)) > 0) {
    for (const char *line = text, *end; line < text + size; line = end + 1) {
      end = static_cast<const char*>(std::memchr(line, '\n', static_cast<size_t>(text + size - line)));
      const char* column = line;
      for (int i = 0; i < 3; ++i) column = std::strchr(column, ' ') + 1;
      char* rest;
      const uint64_t major = std::strtoull(column, &rest, 16);
      const uint64_t minor = std::strtoull(rest + 1, &rest, 16);
      if (std::strtoull(rest + 1, nullptr, 10) != 0 && (major << 32 | minor) == device) ++count;
    }
  }
  ::close(file);
  return count;
}

}  // namespace

int count_holders(const char* target) {
  const int root = static_cast<int>(must(::open(target, O_PATH | O_CLOEXEC), target));
  const Mount mount = mount_of(root, "", AT_EMPTY_PATH);
  identify(root);
  ::close(root);

  const int proc = open_at(AT_FDCWD, "/proc", O_RDONLY);
  const int self = open_at(proc, "self", O_PATH);
  char text[65536];
  const int table = static_cast<int>(must(::openat(self, "mountinfo", O_RDONLY | O_CLOEXEC), "mountinfo"));
  while (::read(table, text, sizeof text) > 0) continue;
  ::close(table);
  ::close(self);

  int count = 0;
  constexpr int flags = AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT;
  each_entry(proc, [&](const char* pid) {
    const int process = ::openat(proc, pid, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (process < 0) return;
    char link[64];
    if (::readlinkat(process, "ns/mnt", link, sizeof link) > 0) {
      for (const char* name : {"root", "root", "cwd", "exe"})
        count += mount_of(process, name, flags).id == mount.id;
      const int files = ::openat(process, "fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
      each_entry(files, [&](const char* fd) { count += mount_of(files, fd, flags).id == mount.id; });
      ::close(files);
      count += count_maps(process, mount.device);
    }
    ::close(process);
  });
  ::close(proc);
  return count;
}

}  // namespace twin
