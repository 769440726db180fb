#include "holders.h"

#include <fcntl.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <set>
#include <tuple>

#include "proc.h"
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
// PTRACE_MODE_READ of ptrace(2) rules them all, for a process other than one's own.
constexpr HoldKind kOfProcesses[] = {HoldKind::fd,  HoldKind::cwd, HoldKind::root,
                                     HoldKind::exe, HoldKind::map, HoldKind::mount_namespace};

constexpr unsigned bit(HoldKind kind) { return 1u << static_cast<unsigned>(kind); }

constexpr unsigned kEverything = [] {
  unsigned bits = 0;
  for (const HoldKind kind : kOfProcesses) bits |= bit(kind);
  return bits;
}();

std::vector<HoldKind> kinds_in(unsigned bits) {
  std::vector<HoldKind> kinds;
  for (const HoldKind kind : kOfProcesses) {
    if ((bits & bit(kind)) != 0) kinds.push_back(kind);
  }
  return kinds;
}

bool lies_below(std::string_view path, const std::string& directory) {
  return !directory.empty() && path.starts_with(directory) && path.size() > directory.size() &&
         path[directory.size()] == '/';
}

class Pass {
 public:
  Pass(const HeldMount& held, int proc, uint64_t own_namespace, const std::vector<MountInfo>& own_table)
      : held_(held), proc_(proc), own_namespace_(own_namespace), ids_(held, own_namespace, own_table) {}

  void look_at(const char* pid);
  void finish(HolderReport& report);

 private:
  struct Process {
    const char* pid;
    int directory;
    uint64_t mount_namespace;
  };
  struct Found {
    Holder holder;
    uint64_t mount_id;
  };

  void look_into_namespace(const Process& process, const HeldPlace& root);
  bool look_at_link(const Process& process, HoldKind kind, const char* name);
  void look_at_files(const Process& process);
  void look_at_maps(const Process& process, const std::string& exe);
  Holder* hold(const Process& process, HoldKind kind, const HeldPlace& place, std::string path);
  bool introduce(const char* pid, Holder& holder);
  void note_failure(unsigned kinds, int error);

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
  std::string text_;
  DirectoryStream files_;
  ProcessMaps maps_;
};

// What has vanished meanwhile is no failure, and a kernel thread has no executable.
void Pass::note_failure(unsigned kinds, int error) {
  if (error == ENOENT || error == ESRCH) return;
  unseen_kinds_ |= kinds;
  unseen_error_ = error;
}

void Pass::look_at(const char* pid) {
  const Fd directory(sys::openat(proc_, pid, O_PATH | O_DIRECTORY));
  if (!directory) return;
  unseen_kinds_ = 0;
  const Process process{pid, directory.get(), namespace_inode(directory.get(), "ns/mnt")};
  if (process.mount_namespace == 0) {
    note_failure(kEverything, errno);
  } else {
    if (auto root = place_of(directory.get(), "root")) look_into_namespace(process, *root);
    look_at_link(process, HoldKind::root, "root");
    look_at_link(process, HoldKind::cwd, "cwd");
    const bool holds_exe = look_at_link(process, HoldKind::exe, "exe");
    const std::string exe = holds_exe ? found_.back().holder.path : std::string();
    look_at_files(process);
    look_at_maps(process, exe);
  }
  if (unseen_kinds_ != 0) unseen_[{unseen_kinds_, unseen_error_}].push_back(std::atoi(pid));
}

// A process sees only those mounts of its namespace that are below its root, so each root is asked.
void Pass::look_into_namespace(const Process& process, const HeldPlace& root) {
  const uint64_t inode = process.mount_namespace;
  if (inode != own_namespace_) processes_in_[inode].push_back(std::atoi(process.pid));
  if (!tables_read_.emplace(inode, root.mount_id, root.inode).second) return;
  if (auto table = read_mount_table(process.directory)) {
    ids_.add(inode, *table);
  } else {
    note_failure(bit(HoldKind::mount_namespace), table.error().err);
  }
}

bool Pass::look_at_link(const Process& process, HoldKind kind, const char* name) {
  auto place = place_of(process.directory, name);
  if (!place) {
    note_failure(bit(kind), place.error().err);
    return false;
  }
  if (!ids_.holds(*place, process.directory, name)) return false;
  return hold(process, kind, *place, link_target(process.directory, name)) != nullptr;
}

void Pass::look_at_files(const Process& process) {
  const Fd directory(sys::openat(process.directory, "fd", O_RDONLY | O_DIRECTORY));
  if (!directory) return note_failure(bit(HoldKind::fd), errno);
  files_.start(directory.get());
  while (const char* name = files_.next()) {
    auto place = place_of(directory.get(), name);
    if (!place) {
      note_failure(bit(HoldKind::fd), place.error().err);
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
  if (files_.error() != 0) note_failure(bit(HoldKind::fd), files_.error());
}

void Pass::look_at_maps(const Process& process, const std::string& exe) {
  if (const int error = maps_.read(process.directory); error != 0) {
    return note_failure(bit(HoldKind::map), error);
  }
  std::set<std::string_view> seen;
  while (const MappedFile* file = maps_.next()) {
    // Before Linux 6.8 a mapped file of an overlay shows its layer's device; the path is the overlay's.
    const bool same_device = file->device == held_.device;
    if (!same_device && !(held_.is_overlay && lies_below(file->path, held_.point))) continue;
    if (!seen.insert(file->path).second) continue;
    const std::string link = file->link();
    auto place = place_of(process.directory, link.c_str());
    // Only with CAP_CHECKPOINT_RESTORE does the kernel follow it; without, the device is witness enough.
    if (!place && place.error().err == EPERM && same_device) place = HeldPlace{.device = held_.device};
    if (!place) {
      note_failure(bit(HoldKind::map), place.error().err);
      continue;
    }
    if (!ids_.holds(*place, process.directory, link.c_str())) continue;
    std::string path = link_target(process.directory, link.c_str());
    if (path.empty()) path = file->path;
    if (path != exe) hold(process, HoldKind::map, *place, std::move(path));
  }
}

// Null: the process has just ended.
Holder* Pass::hold(const Process& process, HoldKind kind, const HeldPlace& place, std::string path) {
  Holder holder{.kind = kind, .pid = std::atoi(process.pid), .path = std::move(path)};
  if (!found_.empty() && found_.back().holder.pid == holder.pid) {
    holder.uid = found_.back().holder.uid;
    holder.comm = found_.back().holder.comm;
  } else if (!introduce(process.pid, holder)) {
    return nullptr;
  }
  // Where no mount id is told, the process's own namespace is the best guess.
  if (place.mount_id == 0 && process.mount_namespace != own_namespace_) {
    holder.mount_namespace = process.mount_namespace;
  }
  found_.push_back({std::move(holder), place.mount_id});
  return &found_.back().holder;
}

// Its command, and its effective user: "Uid:\t<real>\t<effective>\t…".
bool Pass::introduce(const char* pid, Holder& holder) {
  const std::string directory = pid;
  if (read_file(proc_, (directory + "/comm").c_str(), holder.comm) != 0) return false;
  if (holder.comm.ends_with('\n')) holder.comm.pop_back();
  if (read_file(proc_, (directory + "/status").c_str(), text_) != 0) return false;
  const size_t found = text_.find("\nUid:");
  const size_t effective = found == std::string::npos ? found : text_.find('\t', found + 6);
  if (effective != std::string::npos)
    holder.uid = static_cast<uint32_t>(std::strtoul(&text_[effective], nullptr, 10));
  return true;
}

void Pass::finish(HolderReport& report) {
  for (auto& [holder, mount_id] : found_) {
    const uint64_t mount_namespace = ids_.namespace_of(mount_id);
    if (mount_namespace == MountIds::kNowhere) {
      if (holder.kind == HoldKind::fd) holder.kind = HoldKind::detached_fd;
    } else if (mount_namespace != 0) {
      holder.mount_namespace = mount_namespace;
    }
    report.holders.push_back(std::move(holder));
  }
  // What is on the mount itself goes before what is on another of its superblock.
  std::stable_partition(report.holders.begin(), report.holders.end(),
                        [](const Holder& holder) { return holder.mount_namespace == 0; });
  for (const auto& [mount_namespace, point] : ids_.elsewhere()) {
    const std::vector<int>& pids = processes_in_[mount_namespace];
    Holder holder{
        .kind = HoldKind::mount_namespace, .path = point, .mount_namespace = mount_namespace, .pids = pids};
    for (const int pid : pids) {
      if (!introduce(std::to_string(pid).c_str(), holder)) continue;
      holder.pid = pid;
      report.holders.push_back(std::move(holder));
      break;
    }
  }
  for (auto& [what, pids] : unseen_)
    report.unseen.push_back({kinds_in(what.first), what.second, std::move(pids)});
}

}  // namespace

const char* hold_kind_name(HoldKind kind) {
  for (const auto& [known, name] : kKindNames) {
    if (known == kind) return name;
  }
  return "";
}

HolderReport find_holders(const HeldMount& held) {
  HolderReport report;
  const auto blind = [&](int error) {
    report.unseen.push_back({kinds_in(kEverything), error, {}});
    return std::move(report);
  };
  const Fd proc(sys::openat(AT_FDCWD, "/proc", O_RDONLY | O_DIRECTORY));
  const Fd self(sys::openat(proc.get(), "self", O_PATH | O_DIRECTORY));
  if (!self) return blind(errno);
  const uint64_t own_namespace = namespace_inode(self.get(), "ns/mnt");
  if (own_namespace == 0) return blind(errno);
  auto table = read_mount_table(self.get());
  if (!table) return blind(table.error().err);

  for (const MountInfo& mount : *table) {
    if (mount.parent_id == held.id) report.holders.push_back({.kind = HoldKind::mount, .path = mount.point});
  }
  const auto pass = std::make_unique<Pass>(held, proc.get(), own_namespace, *table);
  const auto processes = std::make_unique<DirectoryStream>();
  processes->start(proc.get());
  bool saw_init = false;
  while (const char* name = processes->next()) {
    if (*name < '1' || *name > '9') continue;
    saw_init |= std::strcmp(name, "1") == 0;
    pass->look_at(name);
  }
  pass->finish(report);
  report.hidden_processes = !saw_init;
  report.outer_processes = namespace_inode(self.get(), "ns/pid") != abi::PROC_PID_INIT_INO;
  if (processes->error() != 0) return blind(processes->error());
  return report;
}

}  // namespace overlayfs
