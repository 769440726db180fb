#include "inspect.h"

#include "kernel.h"

namespace twin {
namespace {

constexpr uint64_t kEverything = abi::STATMOUNT_SB_BASIC | abi::STATMOUNT_MNT_BASIC |
                                 abi::STATMOUNT_MNT_ROOT | abi::STATMOUNT_MNT_POINT | abi::STATMOUNT_FS_TYPE |
                                 abi::STATMOUNT_MNT_OPTS | abi::STATMOUNT_SB_SOURCE;

alignas(8) char buffer[65536];

const abi::Statmount& stat_mount(uint64_t id) {
  const abi::MntIdReq request{24, 0, id, kEverything};
  must(syscall(abi::SYS_STATMOUNT, &request, buffer, sizeof buffer, 0), "statmount");
  return *reinterpret_cast<const abi::Statmount*>(buffer);
}

void look_at(const char* path) {
  const int fd = static_cast<int>(must(::open(path, O_PATH | O_CLOEXEC), path));
  struct stat st;
  must(::fstatat(fd, "", &st, AT_EMPTY_PATH), "fstatat");
  const uint64_t mount = identify(fd);
  struct statfs fs;
  must(::fstatfs(fd, &fs), "fstatfs");
  stat_mount(mount);
  char name[32];
  std::snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
  must(::readlink(name, buffer, 4096), "readlink");
  must(::fstatat(fd, ".", &st, 0), "fstatat");
  const int readable = open_at(fd, ".", O_RDONLY);
  ::fgetxattr(readable, "trusted.overlay.opaque", nullptr, 0);
  ::fgetxattr(readable, "user.overlay.opaque", nullptr, 0);
  const int work = ::openat(readable, "work", O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (work >= 0) ::close(work);
  ::close(readable);
  ::close(fd);
}

int hold(const std::string& path) {
  const int fd = open_path(path.c_str());
  identify(fd);
  return fd;
}

int context(const std::vector<int>& lowers, bool lowers_alone) {
  const int fs = fs_open("overlay");
  set_string(fs, "source", "overlayfs:4026531836:4026531834:12345:1234567");
  if (lowers_alone) set_flag(fs, "ro");
  set_string(fs, "redirect_dir", "follow");
  if (!lowers_alone) {
    set_string(fs, "index", "off");
    set_string(fs, "nfs_export", "off");
  }
  set_string(fs, "xino", "off");
  set_string(fs, "metacopy", "off");
  for (const int lower : lowers) set_fd(fs, "lowerdir+", lower);
  return fs;
}

void rehearse(const Room& room) {
  std::vector<int> lowers;
  lowers.reserve(room.lowers.size());
  for (const std::string& lower : room.lowers) lowers.push_back(hold(lower));
  const int upper = hold(room.uppers[0]), work = hold(room.works[0]);
  probe_in_use(upper, work);
  const int inner = ::openat(work, "work", O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (inner >= 0) ::close(inner);

  const int whole = context(lowers, false);
  set_fd(whole, "upperdir", upper);
  set_fd(whole, "workdir", work);
  const int scratch = make_tmpfs();
  ::close(upper);
  ::close(work);
  const int alone = context(lowers, true);
  create(alone);
  ::close(fs_mount(alone));
  ::close(scratch);
  ::close(whole);
  for (const int lower : lowers) ::close(lower);
}

}  // namespace

int list_overlays() {
  static uint64_t ids[1024];
  int overlays = 0;
  for (uint64_t after = 0;; after = ids[1023]) {
    const abi::MntIdReq request{24, 0, abi::LSMT_ROOT, after};
    const long count = must(syscall(abi::SYS_LISTMOUNT, &request, ids, 1024, 0), "listmount");
    for (long i = 0; i < count; ++i) {
      const abi::Statmount& mount = stat_mount(ids[i]);
      overlays += std::strcmp(mount.str + mount.fs_type, "overlay") == 0;
    }
    if (count < 1024) return overlays;
  }
}

void examine(const Room& room) {
  for (const std::string& lower : room.lowers) look_at(lower.c_str());
  look_at(room.uppers[0].c_str());
  look_at(room.works[0].c_str());
  rehearse(room);
  const int table = static_cast<int>(must(::open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC), "mountinfo"));
  while (::read(table, buffer, sizeof buffer) > 0) continue;
  ::close(table);
}

}  // namespace twin
