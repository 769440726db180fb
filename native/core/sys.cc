#include "sys.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cstdio>

#ifdef OVERLAYFS_FAULTS
#include "fault.h"
#define CALL(name, expression) (fault::fails(name) ? -1 : (expression))
#else
#define CALL(name, expression) (expression)
#endif

namespace overlayfs::sys {

#ifdef OVERLAYFS_FAULTS
// A test may also name one command of fsconfig(2): what kernels lack is single commands.
static const char* fsconfig_command(abi::FsconfigCommand command) {
  switch (command) {
    case abi::FSCONFIG_SET_FLAG:
      return "fsconfig:SET_FLAG";
    case abi::FSCONFIG_SET_STRING:
      return "fsconfig:SET_STRING";
    case abi::FSCONFIG_SET_FD:
      return "fsconfig:SET_FD";
    case abi::FSCONFIG_CMD_CREATE:
      return "fsconfig:CMD_CREATE";
    case abi::FSCONFIG_CMD_RECONFIGURE:
      return "fsconfig:CMD_RECONFIGURE";
  }
  return "fsconfig";
}

// Likewise the one kind of opening that file systems lack.
static const char* kind_of_open(int flags) {
  return (flags & O_TMPFILE) == O_TMPFILE ? "openat:O_TMPFILE" : "openat:other";
}
#endif

int fsopen(const char* type) {
  return static_cast<int>(CALL("fsopen", syscall(abi::SYS_FSOPEN, type, abi::FSOPEN_CLOEXEC)));
}
int fsconfig(int fs, abi::FsconfigCommand command, const char* key, const void* value, int aux) {
  return static_cast<int>(CALL(
      "fsconfig", CALL(fsconfig_command(command), syscall(abi::SYS_FSCONFIG, fs, command, key, value, aux))));
}
int fsmount(int fs, uint64_t attributes) {
  return static_cast<int>(CALL("fsmount", syscall(abi::SYS_FSMOUNT, fs, abi::FSMOUNT_CLOEXEC, attributes)));
}
int fspick(int dirfd, const char* path, unsigned flags) {
  return static_cast<int>(CALL("fspick", syscall(abi::SYS_FSPICK, dirfd, path, flags | abi::FSPICK_CLOEXEC)));
}

int move_mount(int from_fd, int to_fd) {
  constexpr unsigned flags = abi::MOVE_MOUNT_F_EMPTY_PATH | abi::MOVE_MOUNT_T_EMPTY_PATH;
  return static_cast<int>(CALL("move_mount", syscall(abi::SYS_MOVE_MOUNT, from_fd, "", to_fd, "", flags)));
}
int mount_setattr(int fd, const abi::MountAttr& attributes) {
  return static_cast<int>(CALL("mount_setattr", syscall(abi::SYS_MOUNT_SETATTR, fd, "", AT_EMPTY_PATH,
                                                        &attributes, sizeof attributes)));
}
int mount(const char* source, const char* target, const char* type, unsigned long flags, const char* data) {
  return static_cast<int>(CALL("mount", syscall(SYS_mount, source, target, type, flags, data)));
}
int umount2(const char* target, int flags) {
  return static_cast<int>(CALL("umount2", syscall(SYS_umount2, target, flags)));
}

int statx(int dirfd, const char* path, int flags, unsigned mask, abi::Statx* result) {
  return static_cast<int>(CALL("statx", syscall(SYS_statx, dirfd, path, flags, mask, result)));
}
int statmount(uint64_t mount_id, uint64_t mask, void* buffer, size_t size) {
  abi::MntIdReq request{24, 0, mount_id, mask};
  return static_cast<int>(CALL("statmount", syscall(abi::SYS_STATMOUNT, &request, buffer, size, 0)));
}
ssize_t listmount(uint64_t mount_id, uint64_t after, uint64_t* ids, size_t count) {
  abi::MntIdReq request{24, 0, mount_id, after};
  return CALL("listmount", syscall(abi::SYS_LISTMOUNT, &request, ids, count, 0));
}
int fstatfs(int fd, struct statfs* result) { return CALL("fstatfs", ::fstatfs(fd, result)); }

int openat(int dirfd, const char* path, int flags, mode_t mode) {
  return CALL("openat", CALL(kind_of_open(flags), ::openat(dirfd, path, flags | O_CLOEXEC, mode)));
}
int openat2(int dirfd, const char* path, const abi::OpenHow& how) {
  return static_cast<int>(CALL("openat2", syscall(abi::SYS_OPENAT2, dirfd, path, &how, sizeof how)));
}
int dup_fd(int fd) { return CALL("fcntl", ::fcntl(fd, F_DUPFD_CLOEXEC, 3)); }
int mkdirat(int dirfd, const char* path, mode_t mode) {
  return CALL("mkdirat", ::mkdirat(dirfd, path, mode));
}
int unlinkat(int dirfd, const char* path, int flags) {
  return CALL("unlinkat", ::unlinkat(dirfd, path, flags));
}
int mknodat(int dirfd, const char* path, mode_t mode, dev_t device) {
  return static_cast<int>(
      CALL("mknodat", syscall(SYS_mknodat, dirfd, path, mode, static_cast<unsigned>(device))));
}
int renameat2(int from, const char* name, int to, const char* new_name, unsigned flags) {
#ifdef OVERLAYFS_FAULTS
  if ((flags & abi::rename_flag::EXCHANGE) != 0 && fault::fails("renameat2:RENAME_EXCHANGE")) return -1;
#endif
  return static_cast<int>(CALL("renameat2", syscall(SYS_renameat2, from, name, to, new_name, flags)));
}
int fstatat(int dirfd, const char* path, struct stat* result, int flags) {
  return CALL("fstatat", ::fstatat(dirfd, path, result, flags));
}

ssize_t readlinkat(int dirfd, const char* path, char* target, size_t size) {
  return CALL("readlinkat", ::readlinkat(dirfd, path, target, size));
}
ssize_t getdents64(int fd, void* entries, size_t size) {
  return CALL("getdents64", syscall(SYS_getdents64, fd, entries, size));
}
int linkat(int from, const char* name, int to, const char* new_name, int flags) {
  return CALL("linkat", ::linkat(from, name, to, new_name, flags));
}
int symlinkat(const char* target, int dirfd, const char* name) {
  return CALL("symlinkat", ::symlinkat(target, dirfd, name));
}

int fchownat(int dirfd, const char* path, uid_t uid, gid_t gid, int flags) {
  return CALL("fchownat", ::fchownat(dirfd, path, uid, gid, flags));
}
int faccessat(int dirfd, const char* path, int mode) {
  return CALL("faccessat", ::faccessat(dirfd, path, mode, AT_EACCESS));
}
int fchmod(int fd, mode_t mode) { return CALL("fchmod", ::fchmod(fd, mode)); }
int chmod(const char* path, mode_t mode) { return CALL("chmod", ::chmod(path, mode)); }
int utimensat(int dirfd, const char* path, const struct timespec times[2], int flags) {
  // Not libc's: it refuses an empty path, which AT_EMPTY_PATH is about.
  return static_cast<int>(CALL("utimensat", syscall(SYS_utimensat, dirfd, path, times, flags)));
}
int ioctl(int fd, unsigned long request, void* argument) {
  return CALL("ioctl", ::ioctl(fd, request, argument));
}

ssize_t read(int fd, void* bytes, size_t size) { return CALL("read", ::read(fd, bytes, size)); }
ssize_t pread(int fd, void* bytes, size_t size, off_t at) {
  return CALL("pread", ::pread(fd, bytes, size, at));
}
ssize_t write(int fd, const void* bytes, size_t size) { return CALL("write", ::write(fd, bytes, size)); }
off_t lseek(int fd, off_t offset, int whence) { return CALL("lseek", ::lseek(fd, offset, whence)); }
int ftruncate(int fd, off_t size) { return CALL("ftruncate", ::ftruncate(fd, size)); }
ssize_t copy_file_range(int from, off_t* from_at, int to, off_t* to_at, size_t size) {
  return CALL("copy_file_range", syscall(SYS_copy_file_range, from, from_at, to, to_at, size, 0u));
}
ssize_t sendfile(int to, int from, off_t* from_at, size_t size) {
  return CALL("sendfile", ::sendfile(to, from, from_at, size));
}
int ficlone(int to, int from) { return CALL("ioctl:FICLONE", ::ioctl(to, abi::FICLONE, from)); }
int fsync(int fd) { return CALL("fsync", ::fsync(fd)); }

ssize_t fgetxattr(int fd, const char* name, void* value, size_t size) {
  return CALL("fgetxattr", ::fgetxattr(fd, name, value, size));
}
ssize_t flistxattr(int fd, char* names, size_t size) {
  return CALL("flistxattr", ::flistxattr(fd, names, size));
}
int fsetxattr(int fd, const char* name, const void* value, size_t size) {
  return CALL("fsetxattr", ::fsetxattr(fd, name, value, size, 0));
}
int fremovexattr(int fd, const char* name) { return CALL("fremovexattr", ::fremovexattr(fd, name)); }
ssize_t llistxattr(const char* path, char* names, size_t size) {
  return CALL("llistxattr", ::llistxattr(path, names, size));
}
ssize_t lgetxattr(const char* path, const char* name, void* value, size_t size) {
  return CALL("lgetxattr", ::lgetxattr(path, name, value, size));
}
ssize_t getxattr(const char* path, const char* name, void* value, size_t size) {
  return CALL("getxattr", ::getxattr(path, name, value, size));
}
ssize_t listxattr(const char* path, char* names, size_t size) {
  return CALL("listxattr", ::listxattr(path, names, size));
}
int setxattr(const char* path, const char* name, const void* value, size_t size, int flags) {
  return CALL("setxattr", ::setxattr(path, name, value, size, flags));
}
int removexattr(const char* path, const char* name) { return CALL("removexattr", ::removexattr(path, name)); }
ssize_t listxattrat(int dirfd, const char* path, int flags, char* names, size_t size) {
  return CALL("listxattrat", syscall(abi::SYS_LISTXATTRAT, dirfd, path, flags, names, size));
}
ssize_t getxattrat(int dirfd, const char* path, int flags, const char* name, void* value, size_t size) {
  abi::XattrArgs arguments{reinterpret_cast<uint64_t>(value), static_cast<uint32_t>(size), 0};
  return CALL("getxattrat",
              syscall(abi::SYS_GETXATTRAT, dirfd, path, flags, name, &arguments, sizeof arguments));
}
int inotify_init() { return CALL("inotify_init1", ::inotify_init1(IN_CLOEXEC)); }
int inotify_add_watch(int fd, const char* path, uint32_t events) {
  return CALL("inotify_add_watch", ::inotify_add_watch(fd, path, events));
}
int inotify_rm_watch(int fd, int watch) { return CALL("inotify_rm_watch", ::inotify_rm_watch(fd, watch)); }
int flock(int fd, int operation) { return CALL("flock", ::flock(fd, operation)); }
int get_lock(int fd, struct flock* lock) { return CALL("fcntl:F_OFD_GETLK", ::fcntl(fd, F_OFD_GETLK, lock)); }
int set_signal(int fd, int signal) { return CALL("fcntl:F_SETSIG", ::fcntl(fd, F_SETSIG, signal)); }
int set_lease(int fd, int type) { return CALL("fcntl:F_SETLEASE", ::fcntl(fd, F_SETLEASE, type)); }
int socket(int domain, int type) { return CALL("socket", ::socket(domain, type | SOCK_CLOEXEC, 0)); }
int connect_to(int socket, const char* path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
  return CALL("connect", ::connect(socket, reinterpret_cast<const sockaddr*>(&address), sizeof address));
}
int syncfs(int fd) { return CALL("syncfs", ::syncfs(fd)); }
int unshare(int flags) { return CALL("unshare", ::unshare(flags)); }
int fchdir(int fd) { return CALL("fchdir", ::fchdir(fd)); }

int name_to_handle_at(int dirfd, const char* path, struct file_handle* handle, int flags) {
  int mount_id;
  return CALL("name_to_handle_at", ::name_to_handle_at(dirfd, path, handle, &mount_id, flags));
}
int open_by_handle_at(int mount_fd, struct file_handle* handle, int flags) {
  return CALL("open_by_handle_at", ::open_by_handle_at(mount_fd, handle, flags | O_CLOEXEC));
}
bool has_file_handles(int fd) {
  struct {
    struct file_handle head;
    unsigned char bytes[MAX_HANDLE_SZ];
  } handle{};
  handle.head.handle_bytes = MAX_HANDLE_SZ;
  return name_to_handle_at(fd, "", &handle.head, AT_EMPTY_PATH) == 0;
}

}  // namespace overlayfs::sys
