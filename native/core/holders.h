// Who keeps a mount busy, and through what: one pass over /proc.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "mount_ids.h"

namespace overlayfs {

enum class HoldKind { fd, cwd, root, exe, map, mount, mount_namespace, detached_fd };
const char* hold_kind_name(HoldKind kind);

struct Holder {
  HoldKind kind = HoldKind::mount;
  int pid = 0;  // 0: a mount, which no process holds
  uint32_t uid = 0;
  std::string comm{};
  std::string path{};  // as the kernel shows it to this process
  int fd = -1;
  bool readable = false, writable = false;  // what the descriptor is open for
  uint64_t mount_namespace = 0;             // 0: this process's own, or none
  std::vector<int> pids{};                  // every process in `mount_namespace`
};

// What could not be looked at, of which processes.
struct Unseen {
  std::vector<HoldKind> kinds;
  int error = 0;
  std::vector<int> pids;  // none: of all
};

struct HolderReport {
  std::vector<Holder> holders;
  std::vector<Unseen> unseen;
  bool hidden_processes = false;  // /proc does not list those of others (hidepid)
  bool outer_processes = false;   // there are some outside this pid namespace, which /proc never lists
};

HolderReport find_holders(const HeldMount& held);

}  // namespace overlayfs
