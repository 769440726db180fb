// The parts of the kernel's ABI that C libraries in use do not declare yet, or declare in headers that
// exclude each other (<sys/mount.h> and <linux/mount.h>). Names, numbers and layouts are the kernel's:
// include/uapi/linux/mount.h, stat.h, openat2.h, magic.h. System call numbers above 423 are the same on every
// architecture.
#pragma once

#include <cstddef>
#include <cstdint>

namespace overlayfs::abi {

constexpr long SYS_OPEN_TREE = 428, SYS_MOVE_MOUNT = 429, SYS_FSOPEN = 430, SYS_FSCONFIG = 431,
               SYS_FSMOUNT = 432, SYS_FSPICK = 433, SYS_OPENAT2 = 437, SYS_MOUNT_SETATTR = 442,
               SYS_STATMOUNT = 457, SYS_LISTMOUNT = 458, SYS_GETXATTRAT = 464, SYS_LISTXATTRAT = 465;

constexpr unsigned FSOPEN_CLOEXEC = 0x1, FSMOUNT_CLOEXEC = 0x1, FSPICK_CLOEXEC = 0x1, FSPICK_EMPTY_PATH = 0x8;
enum FsconfigCommand : unsigned {
  FSCONFIG_SET_FLAG = 0,
  FSCONFIG_SET_STRING = 1,
  FSCONFIG_SET_FD = 5,
  FSCONFIG_CMD_CREATE = 6,
  FSCONFIG_CMD_RECONFIGURE = 7,
};
constexpr size_t FSCONFIG_STRING_MAX = 255;  // longer values are EINVAL, with nothing in the log

constexpr unsigned MOVE_MOUNT_F_EMPTY_PATH = 0x4, MOVE_MOUNT_T_EMPTY_PATH = 0x40;

constexpr uint64_t MOUNT_ATTR_RDONLY = 0x1, MOUNT_ATTR_NOSUID = 0x2, MOUNT_ATTR_NODEV = 0x4,
                   MOUNT_ATTR_NOEXEC = 0x8, MOUNT_ATTR_ATIME = 0x70, MOUNT_ATTR_RELATIME = 0x0,
                   MOUNT_ATTR_NOATIME = 0x10, MOUNT_ATTR_STRICTATIME = 0x20, MOUNT_ATTR_NODIRATIME = 0x80,
                   MOUNT_ATTR_IDMAP = 0x100000, MOUNT_ATTR_NOSYMFOLLOW = 0x200000;

struct MountAttr {
  uint64_t attr_set, attr_clr, propagation, userns_fd;
};

constexpr unsigned long MS_RDONLY = 1, MS_NOSUID = 2, MS_NODEV = 4, MS_NOEXEC = 8, MS_SYNCHRONOUS = 16,
                        MS_REMOUNT = 32, MS_MANDLOCK = 64, MS_DIRSYNC = 128, MS_NOSYMFOLLOW = 256,
                        MS_NOATIME = 1024, MS_NODIRATIME = 2048, MS_BIND = 4096, MS_UNBINDABLE = 1ul << 17,
                        MS_PRIVATE = 1ul << 18, MS_SLAVE = 1ul << 19, MS_SHARED = 1ul << 20,
                        MS_RELATIME = 1ul << 21, MS_STRICTATIME = 1ul << 24, MS_LAZYTIME = 1ul << 25;

constexpr int MNT_DETACH = 2, UMOUNT_NOFOLLOW = 8;

namespace statx_mask {  // STATX_*, which C libraries define as macros
constexpr unsigned TYPE = 0x1, MODE = 0x2, NLINK = 0x4, UID = 0x8, GID = 0x10, ATIME = 0x20, MTIME = 0x40,
                   CTIME = 0x80, INO = 0x100, SIZE = 0x200, BLOCKS = 0x400, BASIC_STATS = 0x7ff,
                   BTIME = 0x800, MNT_ID = 0x1000, MNT_ID_UNIQUE = 0x4000;
}
constexpr uint64_t kStatxMountRoot = 0x2000;  // STATX_ATTR_MOUNT_ROOT, likewise
constexpr uint64_t kStatxImmutable = 0x10, kStatxAppend = 0x20;
struct StatxTime {
  int64_t sec;
  uint32_t nsec;
  int32_t pad;

  bool operator==(const StatxTime& other) const { return sec == other.sec && nsec == other.nsec; }
};
struct Statx {
  uint32_t mask, blksize;
  uint64_t attributes;
  uint32_t nlink, uid, gid;
  uint16_t mode, pad1;
  uint64_t ino, size, blocks, attributes_mask;
  StatxTime atime, btime, ctime, mtime;
  uint32_t rdev_major, rdev_minor, dev_major, dev_minor;
  uint64_t mnt_id;
  uint64_t spare[13];
};
static_assert(sizeof(Statx) == 256);

struct OpenHow {
  uint64_t flags, mode, resolve;
};
struct XattrArgs {
  uint64_t value;
  uint32_t size, flags;
};
constexpr uint64_t RESOLVE_NO_XDEV = 0x01, RESOLVE_NO_SYMLINKS = 0x04, RESOLVE_BENEATH = 0x08,
                   RESOLVE_IN_ROOT = 0x10;

namespace rename_flag {  // RENAME_*, which <stdio.h> defines as macros
constexpr unsigned NOREPLACE = 1, EXCHANGE = 2, WHITEOUT = 4;
}
constexpr unsigned long FICLONE = 0x40049409;

struct MntIdReq {
  uint32_t size, spare;
  uint64_t mnt_id, param;
};
constexpr uint64_t LSMT_ROOT = ~0ull;
constexpr uint64_t STATMOUNT_SB_BASIC = 0x1, STATMOUNT_MNT_BASIC = 0x2, STATMOUNT_MNT_ROOT = 0x8,
                   STATMOUNT_MNT_POINT = 0x10, STATMOUNT_FS_TYPE = 0x20, STATMOUNT_MNT_OPTS = 0x80,
                   STATMOUNT_SB_SOURCE = 0x200;
struct Statmount {
  uint32_t size, mnt_opts;
  uint64_t mask;
  uint32_t sb_dev_major, sb_dev_minor;
  uint64_t sb_magic;
  uint32_t sb_flags, fs_type;
  uint64_t mnt_id, mnt_parent_id;
  uint32_t mnt_id_old, mnt_parent_id_old;
  uint64_t mnt_attr, mnt_propagation, mnt_peer_group, mnt_master, propagate_from;
  uint32_t mnt_root, mnt_point;
  uint64_t mnt_ns_id;
  uint32_t fs_subtype, sb_source;
  uint32_t opt_num, opt_array, opt_sec_num, opt_sec_array;
  uint64_t supported_mask;
  uint32_t mnt_uidmap_num, mnt_uidmap, mnt_gidmap_num, mnt_gidmap;
  uint64_t spare[43];
  char str[];
};
static_assert(sizeof(Statmount) == 512);

constexpr int64_t OVERLAYFS_SUPER_MAGIC = 0x794c7630, BTRFS_SUPER_MAGIC = 0x9123683e,
                  EXT4_SUPER_MAGIC = 0xef53, XFS_SUPER_MAGIC = 0x58465342;
// The inodes in nsfs of the initial user and pid namespaces, on every kernel.
constexpr uint64_t PROC_USER_INIT_INO = 0xEFFFFFFD, PROC_PID_INIT_INO = 0xEFFFFFFC;

}  // namespace overlayfs::abi
