#include "file_handle.h"

#include <fcntl.h>

#include <cstring>

#include "sys.h"

namespace overlayfs {
namespace {

// FS_IOC_GETFSUUID (Linux 6.9) of linux/fs.h; BTRFS_IOC_FS_INFO of linux/btrfs.h, since btrfs lacks the
// former.
constexpr unsigned long GETFSUUID = 0x80111500, BTRFS_FS_INFO = 0x8400941f;
struct FsUuid2 {
  uint8_t len, uuid[16];
};
struct BtrfsFsInfo {
  uint64_t max_id, num_devices;
  uint8_t fsid[16], rest[992];
};
static_assert(sizeof(BtrfsFsInfo) == 1024);

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
  Uuid uuid{};
  FsUuid2 answer{};
  if (sys::ioctl(readable.get(), GETFSUUID, &answer) == 0) {
    std::memcpy(uuid.data(), answer.uuid, uuid.size());
    return uuid;
  }
  BtrfsFsInfo info{};
  struct statfs statfs {};
  if (sys::fstatfs(readable.get(), &statfs) == 0 && statfs.f_type == abi::BTRFS_SUPER_MAGIC) {
    if (sys::ioctl(readable.get(), BTRFS_FS_INFO, &info) != 0) return failed("ioctl", "BTRFS_IOC_FS_INFO");
    std::memcpy(uuid.data(), info.fsid, uuid.size());
  }
  return uuid;
}

}  // namespace overlayfs
