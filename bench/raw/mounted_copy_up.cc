#include "mounted_copy_up.h"

#include <dirent.h>

#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "kernel.h"

namespace twin {
namespace {

constexpr int kThreads = 4;

void look_at(int inode) {
  abi::Statx stx;
  constexpr unsigned mask = abi::statx_mask::BASIC_STATS | abi::statx_mask::BTIME;
  must(syscall(SYS_statx, inode, "", AT_EMPTY_PATH, mask, &stx), "statx");
}

void copy_up(int directory, const char* name) {
  const abi::OpenHow how{.flags = O_PATH | O_CLOEXEC | O_NOFOLLOW,
                         .mode = 0,
                         .resolve = abi::RESOLVE_BENEATH | abi::RESOLVE_NO_SYMLINKS | abi::RESOLVE_NO_XDEV};
  const int inode = static_cast<int>(must(syscall(abi::SYS_OPENAT2, directory, name, &how, sizeof how), name));
  struct stat st;
  must(::fstatat(inode, "", &st, AT_EMPTY_PATH), "fstatat");
  look_at(inode);
  char path[32];
  std::snprintf(path, sizeof path, "/proc/self/fd/%d", inode);
  ::close(static_cast<int>(must(::open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC), path)));
  look_at(inode);
  ::close(inode);
}

}  // namespace

void copy_up_through(const char* target) {
  const int directory = open_at(AT_FDCWD, (std::string(target) + "/d").c_str(), O_RDONLY);
  std::vector<std::string> names;
  DIR* stream = ::fdopendir(directory);
  while (const dirent* entry = ::readdir(stream)) {
    if (entry->d_name[0] != '.') names.emplace_back(entry->d_name);
  }
  std::atomic<size_t> next = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&] {
      for (size_t at = next++; at < names.size(); at = next++) copy_up(directory, names[at].c_str());
    });
  }
  for (std::thread& thread : threads) thread.join();
  ::closedir(stream);
}

}  // namespace twin
