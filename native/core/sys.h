// Every system call that this package makes beyond plain open, read and close: one wrapper each, returning -1
// and errno. This is the one table of calls: a test build (OVERLAYFS_FAULTS) can make any of them fail, and
// do nothing else.
#pragma once

#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/types.h>

#include "kernel_abi.h"

struct file_handle;  // <fcntl.h>
struct flock;        // likewise

namespace overlayfs::sys {

// fsopen(2), fsconfig(2), fsmount(2), fspick(2)
int fsopen(const char* type);
int fsconfig(int fs, abi::FsconfigCommand command, const char* key, const void* value, int aux);
int fsmount(int fs, uint64_t attributes);
int fspick(int dirfd, const char* path, unsigned flags);

// move_mount(2), mount_setattr(2), mount(2), umount2(2), open_tree(2)
int move_mount(int from_fd, int to_fd);  // both by empty path
int mount_setattr(int fd, const abi::MountAttr& attributes);
int mount(const char* source, const char* target, const char* type, unsigned long flags, const char* data);
int umount2(const char* target, int flags);

// statx(2), statmount(2), listmount(2), fstatfs(2)
int statx(int dirfd, const char* path, int flags, unsigned mask, abi::Statx* result);
int statmount(uint64_t mount_id, uint64_t mask, void* buffer, size_t size);
ssize_t listmount(uint64_t mount_id, uint64_t after, uint64_t* ids, size_t count);
int fstatfs(int fd, struct statfs* result);

// openat(2), openat2(2), dup by fcntl(2), mkdirat(2), unlinkat(2), fstatat(2)
int openat(int dirfd, const char* path, int flags, mode_t mode = 0);
int openat2(int dirfd, const char* path, const abi::OpenHow& how);
int dup_fd(int fd);
int mkdirat(int dirfd, const char* path, mode_t mode);
int unlinkat(int dirfd, const char* path, int flags);
int mknodat(int dirfd, const char* path, mode_t mode, dev_t device);
int renameat2(int from, const char* name, int to, const char* new_name, unsigned flags);
int fstatat(int dirfd, const char* path, struct stat* result, int flags);
ssize_t readlinkat(int dirfd, const char* path, char* target, size_t size);
ssize_t getdents64(int fd, void* entries, size_t size);
int linkat(int from, const char* name, int to, const char* new_name, int flags);
int symlinkat(const char* target, int dirfd, const char* name);

// fchownat(2), fchmod(2), faccessat(2), chmod(2), utimensat(2), ioctl(2) for inode flags and file system
// uuids
int fchownat(int dirfd, const char* path, uid_t uid, gid_t gid, int flags);
int fchmod(int fd, mode_t mode);
int faccessat(int dirfd, const char* path, int mode);  // as the effective user
int chmod(const char* path, mode_t mode);
int utimensat(int dirfd, const char* path, const struct timespec times[2], int flags);
int ioctl(int fd, unsigned long request, void* argument);

// read(2), pread(2), write(2), lseek(2), ftruncate(2), copy_file_range(2), sendfile(2), FICLONE, fsync(2)
ssize_t read(int fd, void* bytes, size_t size);
ssize_t pread(int fd, void* bytes, size_t size, off_t at);
ssize_t write(int fd, const void* bytes, size_t size);
off_t lseek(int fd, off_t offset, int whence);
int ftruncate(int fd, off_t size);
ssize_t copy_file_range(int from, off_t* from_at, int to, off_t* to_at, size_t size);
ssize_t sendfile(int to, int from, off_t* from_at, size_t size);
int ficlone(int to, int from);
int fsync(int fd);

// The xattr calls; those by path follow no symbolic link but /proc/self/fd/N, the way to what an O_PATH
// descriptor stands for. flock(2), syncfs(2), unshare(2), name_to_handle_at(2)
ssize_t fgetxattr(int fd, const char* name, void* value, size_t size);
int fsetxattr(int fd, const char* name, const void* value, size_t size);
ssize_t flistxattr(int fd, char* names, size_t size);
int fremovexattr(int fd, const char* name);
ssize_t llistxattr(const char* path, char* names, size_t size);
ssize_t lgetxattr(const char* path, const char* name, void* value, size_t size);
ssize_t getxattr(const char* path, const char* name, void* value, size_t size);
ssize_t listxattr(const char* path, char* names, size_t size);
int setxattr(const char* path, const char* name, const void* value, size_t size, int flags = 0);
int removexattr(const char* path, const char* name);
ssize_t listxattrat(int dirfd, const char* path, int flags, char* names, size_t size);
ssize_t getxattrat(int dirfd, const char* path, int flags, const char* name, void* value, size_t size);
int inotify_init();  // inotify_init1(2)
int inotify_add_watch(int fd, const char* path, uint32_t events);
int inotify_rm_watch(int fd, int watch);
int flock(int fd, int operation);
int get_lock(int fd, struct flock* lock);  // fcntl(2), F_OFD_GETLK
int set_signal(int fd, int signal);        // fcntl(2), F_SETSIG: what a lease's end is told by
int set_lease(int fd, int type);           // fcntl(2), F_SETLEASE
int socket(int domain, int type);
int connect_to(int socket, const char* path);  // connect(2), AF_UNIX
int syncfs(int fd);
int unshare(int flags);
int fchdir(int fd);
int name_to_handle_at(int dirfd, const char* path, struct file_handle* handle, int flags);
int open_by_handle_at(int mount_fd, struct file_handle* handle, int flags);
bool has_file_handles(int fd);  // name_to_handle_at(2) answers for it

}  // namespace overlayfs::sys
