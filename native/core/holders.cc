#include "holders.h"

#include <fcntl.h>
#include <limits.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <tuple>

#include "directory_stream.h"
#include "process_maps.h"
#include "sys.h"

namespace overlayfs {
namespace {

constexpr std::pair<HoldKind, const char*> kKindNames[] = {
    {HoldKind::fd, "fd"},
    {HoldKind::cwd, "cwd"},
    {HoldKind::root, "root"},
    {HoldKind::exe, "exe"},
    {HoldKind::map, "map"},
    {HoldKind::mount, "mount"},
    {HoldKind::mount_namespace, "namespace"},
    {HoldKind::detached_fd, "detached-fd"},
};
constexpr HoldKind kOfProcesses[] = {HoldKind::fd,  HoldKind::cwd, HoldKind::root,
                                     HoldKind::exe, HoldKind::map, HoldKind::mount_namespace};

constexpr unsigned bit(HoldKind kind) { return 1u << static_cast<unsigned>(kind); }

// "mnt:[4026531841]"; 0 with errno when it cannot be read.
uint64_t namespace_inode(int directory, const char* name) {
  std::array<char, 64> link{};
  if (sys::readlinkat(directory, name, link.data(), link.size() - 1) < 0) return 0;
  const char* inode = std::strchr(link.data(), '[');
  return inode == nullptr ? 0 : std::strtoull(inode + 1, nullptr, 10);
}

std::string link_target(int directory, const char* name) {
  std::array<char, PATH_MAX> target;
  const ssize_t size = sys::readlinkat(directory, name, target.data(), target.size());
  return size < 0 ? std::string() : std::string(target.data(), static_cast<size_t>(size));
}

class Pass {
 public:
  Pass(const HeldMount& held, int proc, uint64_t own_namespace, const std::vector<MountInfo>& own_table)
      : held_(held), proc_(proc), own_namespace_(own_namespace), ids_(held, own_namespace, own_table) {}

  void look_at(const char* pid_name);
  void add_namespaces();
  void finish(HolderReport& report);

 private:
  struct Process {
    int pid = 0;
    const char* name = "";
    int directory = -1;
    uint64_t mount_namespace = 0;
    std::string exe;  // when it is held
  };
  struct Found {
    Holder holder;
    uint64_t mount_id;
  };

  void look_into_namespace(const Process& process, const Place& root);
  void look_at_files(const Process& process);
  void look_at_maps(const Process& process);
  bool look_at_link(const Process& process, HoldKind kind, const char* name);
  Holder* hold(const Process& process, HoldKind kind, const Place& place, std::string path);
  void note_failure(const Process& process, unsigned kinds, int error);
  bool introduce(const char* pid_name, Holder& holder);

  const HeldMount& held_;
  const int proc_;
  const uint64_t own_namespace_;
  MountIds ids_;
  std::vector<Found> found_;
  std::map<uint64_t, std::vector<int>> processes_in_;               // by mount namespace other than our own
  std::set<std::tuple<uint64_t, uint64_t, uint64_t>> tables_read_;  // by namespace and root directory
  std::map<std::pair<unsigned, int>, std::vector<int>> unseen_;     // by kinds and errno
  unsigned unseen_kinds_ = 0;                                       // of the process being looked at
  int unseen_error_ = 0;
  DirectoryStream files_;
  ProcessMaps maps_;
};

// What has vanished meanwhile is no failure, and a kernel thread has no executable.
void Pass::note_failure(const Process&, unsigned kinds, int error) {
  if (error == ENOENT || error == ESRCH) return;
  unseen_kinds_ |= kinds;
  unseen_error_ = error;
}

void Pass::look_at(const char* pid_name) {
  const Fd directory(sys::openat(proc_, pid_name, O_PATH | O_DIRECTORY));
  if (!directory) return;
  Process process{.pid = std::atoi(pid_name), .name = pid_name, .directory = directory.get()};
  unseen_kinds_ = 0;

  process.mount_namespace = namespace_inode(directory.get(), "ns/mnt");
  if (process.mount_namespace == 0) {
    // One permission rules all of these links: PTRACE_MODE_READ of ptrace(2).
    unsigned all = 0;
    for (const HoldKind kind : kOfProcesses) all |= bit(kind);
    note_failure(process, all, errno);
  } else {
    if (auto root = place_of(directory.get(), "root")) look_into_namespace(process, *root);
    look_at_link(process, HoldKind::root, "root");
    look_at_link(process, HoldKind::cwd, "cwd");
    if (look_at_link(process, HoldKind::exe, "exe")) process.exe = found_.back().holder.path;
    look_at_files(process);
    look_at_maps(process);
  }
  if (unseen_kinds_ != 0) unseen_[{unseen_kinds_, unseen_error_}].push_back(process.pid);
}

// A process sees only those mounts of its namespace that are below its root, so each root asks anew.
void Pass::look_into_namespace(const Process& process, const Place& root) {
  if (process.mount_namespace == own_namespace_) return;
  processes_in_[process.mount_namespace].push_back(process.pid);
  if (!tables_read_.emplace(process.mount_namespace, root.mount_id, root.inode).second) return;
  auto table = read_mount_table(process.directory, "mountinfo");
  if (table) {
    ids_.add(process.mount_namespace, *table);
  } else {
    note_failure(process, bit(HoldKind::mount_namespace), table.error().err);
  }
}

bool Pass::look_at_link(const Process& process, HoldKind kind, const char* name) {
  auto place = place_of(process.directory, name);
  if (!place) {
    note_failure(process, bit(kind), place.error().err);
    return false;
  }
  if (!ids_.holds(*place, process.directory, name)) return false;
  return hold(process, kind, *place, link_target(process.directory, name)) != nullptr;
}

void Pass::look_at_files(const Process& process) {
  const Fd directory(sys::openat(process.directory, "fd", O_RDONLY | O_DIRECTORY));
  if (!directory) return note_failure(process, bit(HoldKind::fd), errno);
  files_.start(directory.get());
  while (const char* name = files_.next()) {
    auto place = place_of(directory.get(), name);
    if (!place) {
      note_failure(process, bit(HoldKind::fd), place.error().err);
      continue;
    }
    if (place->mount_id == 0) place->mount_id = mount_id_from_fdinfo(process.directory, name);
    if (!ids_.holds(*place, directory.get(), name)) continue;
    Holder* holder = hold(process, HoldKind::fd, *place, link_target(directory.get(), name));
    if (holder == nullptr) continue;
    // The link's own permissions say what the descriptor is open for.
    struct stat link {};
    if (sys::fstatat(directory.get(), name, &link, AT_SYMLINK_NOFOLLOW) != 0) link.st_mode = 0;
    holder->fd = std::atoi(name);
    holder->readable = (link.st_mode & S_IRUSR) != 0;
    holder->writable = (link.st_mode & S_IWUSR) != 0;
  }
  if (files_.error() != 0) note_failure(process, bit(HoldKind::fd), files_.error());
}

void Pass::look_at_maps(const Process& process) {
  if (const int error = maps_.read(process.directory); error != 0)
    return note_failure(process, bit(HoldKind::map), error);
  while (const MappedFile* mapped = maps_.next()) {
    // Before Linux 6.8 the device shown for an overlay's file is its layer's; the path is the overlay's.
    const bool same = mapped->device == held_.device;
    if (!same && !(held_.is_overlay && lies_below(mapped->path, held_.point))) continue;
    auto place = place_of(process.directory, mapped->link.c_str());
    if (!place) {
      // Through map_files the kernel lets only CAP_CHECKPOINT_RESTORE; the device is witness enough.
      if (place.error().err != EPERM) {
        note_failure(process, bit(HoldKind::map), place.error().err);
        continue;
      }
      if (!same) {
        note_failure(process, bit(HoldKind::map), EPERM);
        continue;
      }
      place = Place{held_.device, 0, 0};
    }
    if (!ids_.holds(*place, process.directory, mapped->link.c_str())) continue;
    std::string path = link_target(process.directory, mapped->link.c_str());
    if (path.empty()) path = mapped->path;
    if (path != process.exe) hold(process, HoldKind::map, *place, std::move(path));
  }
}

Holder* Pass::hold(const Process& process, HoldKind kind, const Place& place, std::string path) {
  Holder holder{.kind = kind, .pid = process.pid, .path = std::move(path)};
  if (!found_.empty() && found_.back().holder.pid == process.pid) {
    holder.uid = found_.back().holder.uid;
    holder.comm = found_.back().holder.comm;
  } else if (!introduce(process.name, holder)) {
    return nullptr;  // it has just ended
  }
  if (place.mount_id == 0 && process.mount_namespace != own_namespace_)
    holder.mount_namespace = process.mount_namespace;
  found_.push_back({std::move(holder), place.mount_id});
  return &found_.back().holder;
}
