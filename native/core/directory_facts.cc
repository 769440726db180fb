#include "directory_facts.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/statvfs.h>

#include <map>

#include "sys.h"
#include "work_directory.h"

namespace overlayfs {
namespace {

int xattr_error(int fd, const char* name) {
  return sys::fgetxattr(fd, name, nullptr, 0) >= 0 || errno == ENODATA ? 0 : errno;
}

class Mounts {
 public:
  std::shared_ptr<const MountInfo> of(const DirectoryIdentity& directory) {
    auto [entry, is_new] = known_.try_emplace(directory.mount_id);
    if (is_new) {
      auto info = mount_info(directory.mount_id, directory.unique_mount_id, directory.reusable_mount_id);
      if (info) entry->second = std::make_shared<const MountInfo>(*std::move(info));
    }
    return entry->second;
  }

 private:
  std::map<uint64_t, std::shared_ptr<const MountInfo>> known_;
};

DirectoryFacts facts_of(const DirectoryRef& ref, Mounts& mounts) {
  DirectoryFacts facts;
  const Fd fd(ref.fd >= 0 ? sys::dup_fd(ref.fd) : sys::openat(AT_FDCWD, ref.path.c_str(), O_PATH));
  if (!fd) {
    facts.error = failed(ref.fd >= 0 ? "fcntl" : "openat", {}, ref.shown());
    return facts;
  }
  struct stat st {};
  if (sys::fstatat(fd.get(), "", &st, AT_EMPTY_PATH) == 0) facts.is_directory = S_ISDIR(st.st_mode);
  if (auto identity = identify(fd.get(), ref.shown())) facts.identity = *identity;
  struct statfs fs {};
  if (sys::fstatfs(fd.get(), &fs) == 0) {
    facts.file_system = fs.f_type;
    facts.readonly = (fs.f_flags & ST_RDONLY) != 0;
  }
  facts.mount = mounts.of(facts.identity);
  facts.canonical_path = canonical_path(fd.get());
  if (!facts.is_directory) return facts;

  facts.searchable = sys::fstatat(fd.get(), ".", &st, 0) == 0;
  if (auto readable = reopen_readable(fd.get(), ref.shown())) {
    facts.trusted_xattr_error = xattr_error(readable->get(), "trusted.overlay.opaque");
    facts.user_xattr_error = xattr_error(readable->get(), "user.overlay.opaque");
    facts.volatile_marker = has_volatile_marker(readable->get());
  }
  return facts;
}

}  // namespace

std::vector<DirectoryFacts> directory_facts(const std::vector<DirectoryRef>& refs) {
  std::vector<DirectoryFacts> facts;
  facts.reserve(refs.size());
  Mounts mounts;
  for (const DirectoryRef& ref : refs) facts.push_back(facts_of(ref, mounts));
  return facts;
}

}  // namespace overlayfs
