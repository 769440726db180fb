#include "file_handle.h"

#include <fcntl.h>

#include <cstring>

#include "sys.h"

namespace overlayfs {
namespace {

// FS_IOC_GETFSUUID (Linux 6.9) of linux/fs.h. What tells it before, and of btrfs always: EXT4_IOC_GETFSUUID
// (6.0) of linux/ext4.h, XFS_IOC_FSGEOMETRY_V1 of xfs_fs.h, BTRFS_IOC_FS_INFO of linux/btrfs.h.
constexpr unsigned long GETFSUUID = 0x80111500, EXT4_GETFSUUID = 0x8008662c, XFS_FSGEOMETRY = 0x80705864,
                        BTRFS_FS_INFO = 0x8400941f;
struct FsUuid2 {
  uint8_t len, uuid[16];
};
struct Ext4Uuid {
  uint32_t len, flags;
  uint8_t uuid[16];
};
struct XfsGeometry {
  uint32_t block_counts[8];
  uint64_t blocks[4];
  uint8_t uuid[16];
  uint32_t rest[8];
};
static_assert(sizeof(XfsGeometry) == 112);
struct BtrfsFsInfo {
  uint64_t max_id, num_devices;
  uint8_t fsid[16], rest[992];
};
static_assert(sizeof(BtrfsFsInfo) == 1024);

Uuid uuid_of(const uint8_t (&bytes)[16]) {
  Uuid uuid;
  std::memcpy(uuid.data(), bytes, sizeof bytes);
  return uuid;
}

}  // namespace

Result<FileHandle> file_handle(int dirfd, const std::string& path) {
  struct {
    ::file_handle head;
    unsigned char bytes[MAX_HANDLE_SZ];
  } handle{};
  handle.head.handle_bytes = MAX_HANDLE_SZ;
  const int flags = path.empty() ? AT_EMPTY_PATH : 0;
  if (sys::name_to_handle_at(dirfd, path.c_str(), &handle.head, flags) != 0)
    return failed("name_to_handle_at", {}, path);
  return FileHandle{handle.head.handle_type,
                    {reinterpret_cast<const char*>(handle.bytes), handle.head.handle_bytes}};
}

Result<Fd> open_handle(int mount, const FileHandle& handle, int flags) {
  struct {
    ::file_handle head;
    unsigned char bytes[MAX_HANDLE_SZ];
  } copy{};
  if (handle.bytes.size() > MAX_HANDLE_SZ) return SysError{EINVAL, "open_by_handle_at", "too long", {}, {}};
  copy.head.handle_bytes = static_cast<unsigned>(handle.bytes.size());
  copy.head.handle_type = handle.type;
  std::memcpy(copy.bytes, handle.bytes.data(), handle.bytes.size());
  Fd opened(sys::open_by_handle_at(mount, &copy.head, flags));
  if (!opened) return failed("open_by_handle_at");
  return opened;
}

Result<Uuid> file_system_uuid(int directory) {
  const Fd readable(sys::openat(directory, ".", O_RDONLY | O_DIRECTORY));
  if (!readable) return failed("openat", "\".\", O_RDONLY | O_DIRECTORY");
  FsUuid2 answer{};
  if (sys::ioctl(readable.get(), GETFSUUID, &answer) == 0) return uuid_of(answer.uuid);
  struct statfs statfs {};
  if (sys::fstatfs(readable.get(), &statfs) != 0) return Uuid{};
  if (statfs.f_type == abi::EXT4_SUPER_MAGIC) {
    Ext4Uuid ext4{sizeof ext4.uuid, 0, {}};
    if (sys::ioctl(readable.get(), EXT4_GETFSUUID, &ext4) == 0) return uuid_of(ext4.uuid);
  } else if (statfs.f_type == abi::XFS_SUPER_MAGIC) {
    XfsGeometry xfs{};
    if (sys::ioctl(readable.get(), XFS_FSGEOMETRY, &xfs) == 0) return uuid_of(xfs.uuid);
  } else if (statfs.f_type == abi::BTRFS_SUPER_MAGIC) {
    BtrfsFsInfo btrfs{};
    if (sys::ioctl(readable.get(), BTRFS_FS_INFO, &btrfs) != 0) return failed("ioctl", "BTRFS_IOC_FS_INFO");
    return uuid_of(btrfs.fsid);
  }
  return Uuid{};
}

}  // namespace overlayfs
