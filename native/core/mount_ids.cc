#include "mount_ids.h"

#include <fcntl.h>
#include <sys/inotify.h>
#include <sys/sysmacros.h>

#include <array>
#include <climits>
#include <cstdlib>
#include <cstring>

#include "sys.h"

namespace overlayfs {
namespace {

uint64_t device_number(dev_t device) { return uint64_t{gnu_dev_major(device)} << 32 | gnu_dev_minor(device); }

Result<HeldMount> held_mount_at(int fd, const std::string& shown, bool must_be_root) {
  abi::Statx stx{};
  constexpr unsigned mask = abi::statx_mask::TYPE | abi::statx_mask::INO | abi::statx_mask::MNT_ID;
  const bool told =
      sys::statx(fd, "", AT_EMPTY_PATH, mask, &stx) == 0 && (stx.mask & abi::statx_mask::MNT_ID) != 0;
  const DirectoryIdentity identity = TRY(identify(fd, shown));
  HeldMount held{.id = told ? stx.mnt_id : identity.mount_id, .device = identity.device};
  struct statfs fs {};
  held.is_overlay = sys::fstatfs(fd, &fs) == 0 && fs.f_type == abi::OVERLAYFS_SUPER_MAGIC;

  const std::string path = canonical_path(fd);
  bool is_root = told && (stx.attributes & abi::kStatxMountRoot) != 0;
  if (auto info = mount_info(identity.mount_id, identity.unique_mount_id)) {
    held.id = info->old_id;
    held.device = info->device;
    held.point = info->point;
    is_root |= path == info->point;
  }
  if (must_be_root && !is_root) return SysError{EINVAL, "statx", "not a mount point", shown, {}};
  return held;
}

}  // namespace

Result<HeldMount> held_mount(const DirectoryRef& ref) {
  if (ref.fd >= 0) return held_mount_at(ref.fd, ref.shown(), false);
  const Fd fd(sys::openat(AT_FDCWD, ref.path.c_str(), O_PATH));
  if (!fd) return failed("openat", "O_PATH", ref.path);
  return held_mount_at(fd.get(), ref.path, true);
}

Result<HeldMount> held_mount_by_id(uint64_t id) {
  const MountInfo info = TRY(mount_info(id, id > INT_MAX));
  return HeldMount{
      .id = info.old_id, .device = info.device, .point = info.point, .is_overlay = info.type == "overlay"};
}

Result<HeldPlace> place_of(int directory, const char* name) {
  abi::Statx stx{};
  constexpr int flags = AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT;
  constexpr unsigned mask = abi::statx_mask::TYPE | abi::statx_mask::INO | abi::statx_mask::MNT_ID;
  if (sys::statx(directory, name, flags, mask, &stx) == 0) {
    const uint64_t mount_id = (stx.mask & abi::statx_mask::MNT_ID) != 0 ? stx.mnt_id : 0;
    return HeldPlace{uint64_t{stx.dev_major} << 32 | stx.dev_minor, mount_id, stx.ino, S_ISDIR(stx.mode)};
  }
  if (errno != ENOSYS) return failed("statx", {}, name);
  struct stat st {};
  if (sys::fstatat(directory, name, &st, AT_NO_AUTOMOUNT) != 0) return failed("fstatat", {}, name);
  return HeldPlace{device_number(st.st_dev), 0, st.st_ino, S_ISDIR(st.st_mode)};
}

MountIds::MountIds(const HeldMount& held, uint64_t own_namespace, const std::vector<MountInfo>& own_table)
    : held_(held), own_namespace_(own_namespace) {
  for (const MountInfo& mount : own_table)
    mounts_.insert_or_assign(mount.old_id, Mount{mount.device, own_namespace});
}

void MountIds::add(uint64_t mount_namespace, const std::vector<MountInfo>& table) {
  for (const MountInfo& mount : table) {
    mounts_.insert_or_assign(mount.old_id, Mount{mount.device, mount_namespace});
    if (mount.device != held_.device || mount_namespace == own_namespace_) continue;
    elsewhere_.try_emplace(mount_namespace, mount.point);
  }
}

// The device of the superblock that an overlay's file is on; nothing: it is on no overlay, 0: it is not to be
// had. st_dev may be a layer's, and a mount that is in no table has no other witness than inotify, whose
// fdinfo names the superblock of what it watches: "inotify wd:1 ino:8 sdev:2c …". Closing one waits some
// milliseconds, so one serves for all.
std::optional<uint64_t> MountIds::overlay_device(int directory, const char* name) {
  const Fd file(sys::openat(directory, name, O_PATH));
  struct statfs fs {};
  if (!file || sys::fstatfs(file.get(), &fs) != 0 || fs.f_type != abi::OVERLAYFS_SUPER_MAGIC)
    return std::nullopt;
  if (!notify_) notify_.reset(sys::inotify_init());
  if (!notify_) return 0;
  const int watch = sys::inotify_add_watch(notify_.get(), fd_name(file.get()).c_str(), IN_DELETE_SELF);
  if (watch < 0) return 0;
  const std::string info_name = "/proc/self/fdinfo/" + std::to_string(notify_.get());
  const Fd info(sys::openat(AT_FDCWD, info_name.c_str(), O_RDONLY));
  std::array<char, 512> text{};
  const bool told = info && ::read(info.get(), text.data(), text.size() - 1) > 0;
  sys::inotify_rm_watch(notify_.get(), watch);
  const char* found = told ? std::strstr(text.data(), "sdev:") : nullptr;
  if (found == nullptr) return 0;
  const uint64_t device = std::strtoull(found + 5, nullptr, 16);  // in the kernel's own form: 12 and 20 bits
  return (device >> 20) << 32 | (device & 0xfffff);
}

bool MountIds::holds(const HeldPlace& place, int directory, const char* name) {
  if (place.mount_id == held_.id) return true;
  if (place.mount_id == 0) return place.device == held_.device;
  auto [found, is_new] = mounts_.try_emplace(place.mount_id, Mount{0, kNowhere});
  if (is_new) {
    // st_dev is the superblock's, but for files of an overlay: theirs may be a layer's.
    const bool certain = place.is_directory || (place.device == held_.device) == held_.is_overlay;
    found->second.device = certain ? place.device : overlay_device(directory, name).value_or(place.device);
  }
  return found->second.device == held_.device && found->second.mount_namespace != own_namespace_;
}

uint64_t MountIds::namespace_of(uint64_t mount_id) const {
  const auto found = mounts_.find(mount_id);
  if (found == mounts_.end()) return mount_id == 0 ? 0 : kNowhere;
  return found->second.mount_namespace == own_namespace_ ? 0 : found->second.mount_namespace;
}

}  // namespace overlayfs
