#include "copy_up.h"

#include "kernel.h"
#include "overlay.h"

// After kernel.h: it defines CTIME.
#include <dirent.h>
#include <sys/ioctl.h>

#include <atomic>
#include <string>
#include <thread>
#include <vector>

namespace twin {
namespace {

constexpr unsigned long GETFLAGS = 0x80086601;
constexpr size_t kChunk = size_t{16} << 20;

struct Directories {
  int lower, upper, staging;
  struct stat above;
};

struct Handle {
  ::file_handle head;
  unsigned char bytes[MAX_HANDLE_SZ];
};

// As long as the kernel's; what is in it does not matter here.
size_t encode_origin(int fd, char *origin) {
  Handle handle{};
  handle.head.handle_bytes = MAX_HANDLE_SZ;
  int mount;
  must(::name_to_handle_at(fd, "", &handle.head, &mount, AT_EMPTY_PATH),
       "name_to_handle_at");
  std::memset(origin, 0, 21);
  std::memcpy(origin + 21, handle.bytes, handle.head.handle_bytes);
  return 21 + handle.head.handle_bytes;
}

void copy_data(int from, int to, off_t size) {
  if (::ioctl(to, abi::FICLONE, from) == 0) {
    struct stat st;
    must(::fstatat(to, "", &st, AT_EMPTY_PATH), "fstatat");
    return;
  }
  off_t end = 0;
  while (end < size) {
    off_t at = ::lseek(from, end, SEEK_DATA);
    if (at < 0)
      break;
    end = must(::lseek(from, at, SEEK_HOLE), "lseek");
    while (at < end) {
      off_t to_at = at;
      const size_t rest = static_cast<size_t>(end - at);
      must(::copy_file_range(from, &at, to, &to_at,
                             rest < kChunk ? rest : kChunk, 0),
           "copy_file_range");
    }
  }
  struct stat st;
  must(::fstatat(to, "", &st, AT_EMPTY_PATH), "fstatat");
  if (st.st_size < size)
    must(::ftruncate(to, size), "ftruncate");
}

void copy_file(const Directories &in, const char *file) {
  char name[300];
  abi::Statx stx;
  must(syscall(SYS_statx, in.lower, file, AT_SYMLINK_NOFOLLOW, 0xfff, &stx),
       "statx");
  std::snprintf(name, sizeof name, "/proc/self/fd/%d/%s", in.lower, file);
  ::lgetxattr(name, "trusted.overlay.metacopy", name, 0);
  const abi::OpenHow how{O_PATH | O_NOFOLLOW | O_CLOEXEC, 0,
                         abi::RESOLVE_BENEATH | abi::RESOLVE_NO_SYMLINKS |
                             abi::RESOLVE_NO_XDEV};
  const int path = static_cast<int>(
      must(syscall(abi::SYS_OPENAT2, in.lower, file, &how, sizeof how), file));
  struct stat st;
  must(::fstatat(path, "", &st, AT_EMPTY_PATH), "fstatat");
  std::snprintf(name, sizeof name, "/proc/self/fd/%d", path);
  const int from = static_cast<int>(
      must(::open(name, O_RDONLY | O_NOATIME | O_CLOEXEC), name));
  ::close(path);
  char origin[256], list[1024];
  const size_t origin_size = encode_origin(from, origin);
  const int to = static_cast<int>(
      must(::openat(in.staging, ".", O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600),
           "O_TMPFILE"));
  copy_data(from, to, st.st_size);
  must(::fchownat(to, "", st.st_uid, st.st_gid, AT_EMPTY_PATH), "fchownat");
  must(::fchmod(to, st.st_mode & 07777), "fchmod");
  must(::flistxattr(from, list, sizeof list), "flistxattr");
  must(::flistxattr(to, list, sizeof list), "flistxattr");
  must(::fsetxattr(to, "trusted.overlay.origin", origin, origin_size, 0),
       "fsetxattr");
  int flags;
  ::ioctl(from, GETFLAGS, &flags);
  const timespec times[] = {st.st_atim, st.st_mtim};
  must(::futimens(to, times), "utimensat");
  must(::linkat(to, "", in.upper, file, AT_EMPTY_PATH), "linkat");
  ::close(to);
  const timespec above[] = {in.above.st_atim, in.above.st_mtim};
  must(syscall(SYS_utimensat, in.upper, "", above, AT_EMPTY_PATH), "utimensat");
  ::close(from);
}

std::vector<std::string> list(int directory) {
  std::vector<std::string> names;
  DIR *stream = ::fdopendir(open_at(directory, ".", O_RDONLY));
  while (const dirent *entry = ::readdir(stream)) {
    if (entry->d_name[0] != '.')
      names.emplace_back(entry->d_name);
  }
  ::closedir(stream);
  return names;
}

} // namespace

void copy_up(int threads) {
  const int upper = open_path("u0"), work = open_path("w0"),
            sync = open_at(upper, ".", O_RDONLY);
  probe_in_use(upper, work);
  ::mkdirat(work, "work", 0);
  ::mkdirat(upper, "d", 0755);
  ::setxattr("u0", "trusted.overlay.impure", "y", 1, 0);
  ::setxattr("u0/d", "trusted.overlay.impure", "y", 1, 0);
  Directories in{
      open_path("l0/d"), open_path("u0/d"), step_down(work, "work"), {}};
  must(::fstatat(in.lower, "", &in.above, AT_EMPTY_PATH), "fstatat");

  const std::vector<std::string> names = list(in.lower);
  std::atomic<size_t> next = 0;
  const auto share = [&] {
    for (size_t i = next++; i < names.size(); i = next++)
      copy_file(in, names[i].c_str());
  };
  std::vector<std::thread> others;
  for (int i = 1; i < threads; ++i)
    others.emplace_back(share);
  share();
  for (std::thread &other : others)
    other.join();
  must(::syncfs(sync), "syncfs");
  ::unlinkat(work, "work", AT_REMOVEDIR);
  for (const int fd : {in.lower, in.upper, in.staging, upper, work, sync})
    ::close(fd);
}

} // namespace twin
