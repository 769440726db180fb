#include "overlays_elsewhere.h"

#include <fcntl.h>

#include <cstdlib>
#include <set>

#include "fd.h"
#include "proc.h"
#include "sys.h"

namespace overlayfs {

Result<OverlaysElsewhere> overlays_elsewhere() {
  const Fd proc(sys::openat(AT_FDCWD, "/proc", O_RDONLY | O_DIRECTORY));
  if (!proc) return failed("openat", "O_RDONLY | O_DIRECTORY", "/proc");
  std::set<uint64_t> seen{namespace_inode(proc.get(), "self/ns/mnt")};
  OverlaysElsewhere found;
  DirectoryStream processes;
  processes.start(proc.get());
  while (const char* name = processes.next()) {
    if (*name < '0' || *name > '9') continue;
    const uint64_t mount_namespace = namespace_inode(proc.get(), (std::string(name) + "/ns/mnt").c_str());
    if (mount_namespace == 0 && (errno == EACCES || errno == EPERM)) ++found.unseen;
    if (mount_namespace == 0 || seen.contains(mount_namespace)) continue;
    const Fd process(sys::openat(proc.get(), name, O_PATH | O_DIRECTORY));
    if (!process) continue;
    auto table = read_mount_table(process.get());
    if (!table) continue;  // it has ended; another process of the namespace will do
    seen.insert(mount_namespace);
    for (MountInfo& mount : *table) {
      if (mount.type == "overlay") found.overlays.push_back({std::atoi(name), std::move(mount)});
    }
  }
  return found;
}

}  // namespace overlayfs
