#include "overlay.h"

#include <optional>

#include "kernel.h"

namespace twin {
namespace {

// A detached tmpfs with an upper and a work directory.
struct Scratch {
  Scratch() {
    root = make_tmpfs();
    must(::mkdirat(root, "upper", 0755), "mkdirat");
    upper = step_down(root, "upper");
    must(::mkdirat(root, "work", 0755), "mkdirat");
    work = step_down(root, "work");
  }

  int root, upper, work;
};

// No directory above `inner` on its mount is a lower.
void walk_up(int inner, uint64_t mount) {
  int parent = open_at(inner, "..", O_PATH);
  while (identify(parent) == mount) {
    const int above = open_at(parent, "..", O_PATH);
    ::close(parent);
    parent = above;
  }
  ::close(parent);
  struct statfs fs;
  must(::fstatfs(inner, &fs), "fstatfs");
}

bool exists(int directory, const char* name) {
  struct stat st;
  return ::fstatat(directory, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

// What is looked at before a writable mount; returns the descriptors that are held until it stands.
struct WritableChecks {
  WritableChecks(const Shape& shape, const Live& live, uint64_t mount) {
    readable_upper = open_at(live.upper, ".", O_RDONLY);
    ::fgetxattr(readable_upper, "trusted.overlay.opaque", nullptr, 0);
    walk_up(live.upper, mount);
    walk_up(live.work, mount);
    lock = open_at(live.work, ".", O_RDONLY);
    must(::flock(lock, LOCK_EX | LOCK_NB), "flock");
    if (shape.probe) probe_in_use(live.upper, live.work);
    if (shape.is_volatile) clear_volatile_marker(lock);
    exists(lock, "work");
    exists(lock, "index");
    char names[4096];
    if (::flistxattr(readable_upper, nullptr, 0) > 0) ::flistxattr(readable_upper, names, sizeof names);
  }

  int readable_upper, lock;
};

}  // namespace

Room::Room(const std::string& path, const Shape& shape) {
  for (int i = 0; i < shape.lowers; ++i) lowers.push_back(path + "/l" + std::to_string(i));
  for (int i = 0; i < shape.count; ++i) {
    uppers.push_back(path + "/u" + std::to_string(i));
    works.push_back(path + "/w" + std::to_string(i));
    targets.push_back(path + "/m" + std::to_string(i));
  }
}

int make_tmpfs() {
  const int fs = fs_open("tmpfs");
  set_string(fs, "source", "overlayfs-scratch");
  set_string(fs, "mode", "0755");
  create(fs);
  return fs_mount(fs);
}

Live mount_overlay(const Room& room, const Shape& shape, size_t index) {
  Live live;
  live.lowers.reserve(room.lowers.size());
  for (const std::string& lower : room.lowers) {
    live.lowers.push_back(open_path(lower.c_str()));
    if (shape.writable) identify(live.lowers.back());
  }
  std::optional<WritableChecks> checks;
  if (shape.writable) {
    live.upper = open_path(room.uppers[index].c_str());
    const uint64_t mount = identify(live.upper);
    live.work = open_path(room.works[index].c_str());
    identify(live.work);
    checks.emplace(shape, live, mount);
  }
  std::optional<Scratch> scratch;
  if (shape.scratch) {
    scratch.emplace();
    live.upper = scratch->upper;
    live.work = scratch->work;
  }
  const int target = shape.detached ? -1 : open_path(room.targets[index].c_str());

  const int fs = fs_open("overlay");
  set_string(fs, "source", "overlayfs:4026531836:4026531834:12345:1234567");
  set_string(fs, "redirect_dir", "follow");
  set_string(fs, "index", "off");
  set_string(fs, "nfs_export", "off");
  set_string(fs, "xino", "off");
  set_string(fs, "metacopy", "off");
  if (shape.is_volatile) set_flag(fs, "volatile");
  for (const int lower : live.lowers) set_fd(fs, "lowerdir+", lower);
  if (live.upper >= 0) set_fd(fs, "upperdir", live.upper);
  if (live.work >= 0) set_fd(fs, "workdir", live.work);
  create(fs);
  const int root = fs_mount(fs);

  struct statfs facts;
  must(::fstatfs(root, &facts), "fstatfs");
  if (shape.detached) {
    identify(root);
    live.root = root;
  } else {
    constexpr unsigned by_descriptors = abi::MOVE_MOUNT_F_EMPTY_PATH | abi::MOVE_MOUNT_T_EMPTY_PATH;
    must(syscall(abi::SYS_MOVE_MOUNT, root, "", target, "", by_descriptors), "move_mount");
    stat_propagation(identify(root));
    const abi::MountAttr private_only{0, 0, abi::MS_PRIVATE, 0};
    must(syscall(abi::SYS_MOUNT_SETATTR, root, "", AT_EMPTY_PATH, &private_only, sizeof private_only),
         "mount_setattr");
    ::close(root);
  }
  if (scratch) ::close(scratch->root);
  if (target >= 0) ::close(target);
  if (checks) {
    ::close(checks->lock);
    ::close(checks->readable_upper);
  }
  return live;
}

void unmount_overlay(const Room& room, const Shape& shape, size_t index, Live& live) {
  if (shape.detached) {
    ::close(live.root);
  } else {
    const int root = open_path(room.targets[index].c_str());
    identify(root);
    char name[32], path[4096];
    std::snprintf(name, sizeof name, "/proc/self/fd/%d", root);
    const long size = must(::readlink(name, path, sizeof path - 1), "readlink");
    path[size] = '\0';
    ::close(root);
    unmount(path);
  }
  if (live.work >= 0) ::close(live.work);
  if (live.upper >= 0) ::close(live.upper);
  for (const int lower : live.lowers) ::close(lower);
}

void probe_in_use(int upper, int work) {
  const int readable = open_at(upper, ".", O_RDONLY);
  struct {
    file_handle head;
    unsigned char bytes[MAX_HANDLE_SZ];
  } handle{};
  handle.head.handle_bytes = MAX_HANDLE_SZ;
  int mount_id;
  must(::name_to_handle_at(readable, "", &handle.head, &mount_id, AT_EMPTY_PATH), "name_to_handle_at");
  ::close(readable);

  const Scratch scratch;
  std::vector<int> lowers{::fcntl(upper, F_DUPFD_CLOEXEC, 3)};
  if (work >= 0) lowers.push_back(::fcntl(work, F_DUPFD_CLOEXEC, 3));
  const int fs = fs_open("overlay");
  set_string(fs, "source", "overlayfs-in-use-probe");
  set_string(fs, "index", "on");
  for (const int lower : lowers) set_fd(fs, "lowerdir+", lower);
  set_fd(fs, "upperdir", scratch.upper);
  set_fd(fs, "workdir", scratch.work);
  create(fs);
  ::close(fs_mount(fs));
  for (const int lower : lowers) ::close(lower);
  for (const int fd : {scratch.work, scratch.upper, scratch.root}) ::close(fd);
}

void clear_volatile_marker(int work) {
  constexpr int flags = O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
  const int inner = ::openat(work, "work", flags);
  const int incompat = ::openat(inner, "incompat", flags);
  ::close(inner);
  if (incompat < 0) return;  // the room's first mount
  const int marker = step_down(incompat, "volatile");
  must(::unlinkat(marker, "dirty", 0), "unlinkat");
  ::close(marker);
  must(::unlinkat(incompat, "volatile", AT_REMOVEDIR), "unlinkat");
  ::close(incompat);
}

void mount_by_string(const Room& room, const Shape& shape, size_t index) {
  const std::string i = std::to_string(index);
  std::string data = "lowerdir=l0";
  for (size_t lower = 1; lower < room.lowers.size(); ++lower) data += ":l" + std::to_string(lower);
  if (shape.writable) data += ",upperdir=u" + i + ",workdir=w" + i;
  if (shape.is_volatile) data += ",volatile";
  data += ",redirect_dir=follow,index=off,nfs_export=off,xino=off,metacopy=off";
  must(::syscall(SYS_mount, "overlay", room.targets[index].c_str(), "overlay", 0, data.c_str()), "mount");
}

}  // namespace twin
