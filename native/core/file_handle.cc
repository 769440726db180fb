#include "file_handle.h"

#include <fcntl.h>

#include <bit>
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

constexpr unsigned char OVL_FH_MAGIC = 0xfb, OVL_FH_FLAG_BIG_ENDIAN = 1, OVL_FH_FLAG_PATH_UPPER = 4;

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

std::string encode_overlay_handle(const FileHandle& handle, const Uuid& uuid, bool is_upper) {
  const size_t size = 5 + uuid.size() + handle.bytes.size();
  unsigned char flags = std::endian::native == std::endian::big ? OVL_FH_FLAG_BIG_ENDIAN : 0;
  if (is_upper) flags |= OVL_FH_FLAG_PATH_UPPER;
  std::string encoded = {0, static_cast<char>(OVL_FH_MAGIC), static_cast<char>(size),
                         static_cast<char>(flags), static_cast<char>(handle.type)};
  encoded.append(reinterpret_cast<const char*>(uuid.data()), uuid.size());
  return encoded + handle.bytes;
}

}  // namespace overlayfs
