#include "copy_entry.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/sysmacros.h>

#include <array>
#include <atomic>

#include "directory.h"
#include "sys.h"

namespace overlayfs {
namespace {

std::string staged_name() {
  static std::atomic<uint64_t> count;
  return kStagedName + std::to_string(::getpid()) + "-" + std::to_string(count.fetch_add(1));
}

// A name in the staging directory that goes away again unless what it names has been put into place.
class Staged {
 public:
  Staged(int directory, std::string name, bool is_directory)
      : directory_(directory), name_(std::move(name)), is_directory_(is_directory) {}
  Staged(const Staged&) = delete;
  Staged& operator=(const Staged&) = delete;
  ~Staged() {
    if (directory_ >= 0) sys::unlinkat(directory_, name_.c_str(), is_directory_ ? AT_REMOVEDIR : 0);
  }
  const char* name() const { return name_.c_str(); }

  Result<void> place(int parent, const std::string& name) {
    int done = sys::renameat2(directory_, name_.c_str(), parent, name.c_str(), abi::rename_flag::NOREPLACE);
    if (done != 0 && errno == EINVAL) {
      // A file system without RENAME_NOREPLACE.
      struct stat there {};
      if (sys::fstatat(parent, name.c_str(), &there, AT_SYMLINK_NOFOLLOW) == 0)
        return SysError{EEXIST, "renameat2", {}, name, {}};
      done = sys::renameat2(directory_, name_.c_str(), parent, name.c_str(), 0);
    }
    if (done != 0) return failed("renameat2", "RENAME_NOREPLACE", name);
    directory_ = -1;
    return {};
  }

 private:
  int directory_;
  std::string name_;
  bool is_directory_;
};

Result<Fd> open_staged(const Staged& staged, int directory, int flags, mode_t mode = 0) {
  Fd opened(sys::openat(directory, staged.name(), flags | O_NOFOLLOW, mode));
  if (!opened) return failed("openat", staged.name());
  return opened;
}

Result<void> link_into_place(int file, int parent, const std::string& name) {
  // By descriptor alone needs CAP_DAC_READ_SEARCH: ENOENT without it.
  if (sys::linkat(file, "", parent, name.c_str(), AT_EMPTY_PATH) == 0) return {};
  if (errno == ENOENT &&
      sys::linkat(AT_FDCWD, fd_name(file).c_str(), parent, name.c_str(), AT_SYMLINK_FOLLOW) == 0)
    return {};
  return failed("linkat", "O_TMPFILE", name);
}

Result<CopiedEntry> fill_file(const Source& metadata, const Source& data, int to,
                              const CopyOptions& options) {
  CopiedEntry copied;
  copied.data =
      TRY(copy_data(data.fd.get(), to, static_cast<uint64_t>(metadata.stat.st_size), options.control));
  copied.dropped = TRY(copy_metadata(metadata.inode(), {to, false}, metadata.stat, options.metadata));
  return copied;
}

Result<std::string> read_target(const Source& link) {
  std::array<char, PATH_MAX> target;
  const ssize_t size = sys::readlinkat(link.fd.get(), "", target.data(), target.size());
  if (size < 0) return failed("readlinkat");
  return std::string(target.data(), static_cast<size_t>(size));
}

Result<void> make(const Source& from, int directory, const char* name) {
  const mode_t type = from.stat.st_mode & S_IFMT;
  if (type == S_IFDIR) {
    if (sys::mkdirat(directory, name, 0700) != 0) return failed("mkdirat", name);
  } else if (type == S_IFLNK) {
    const std::string target = TRY(read_target(from));
    if (sys::symlinkat(target.c_str(), directory, name) != 0) return failed("symlinkat", name);
  } else {
    // The kernel's numbers of a device, in which mknod(2) takes them.
    const unsigned major = gnu_dev_major(from.stat.st_rdev), minor = gnu_dev_minor(from.stat.st_rdev);
    const dev_t device = (minor & 0xff) | (major << 8) | ((minor & ~0xffu) << 12);
    if (sys::mknodat(directory, name, type | 0600, device) != 0) return failed("mknodat", name);
  }
  return {};
}

}  // namespace

Result<Source> open_source(Fd path) {
  Source source{std::move(path), true, {}};
  if (sys::fstatat(source.fd.get(), "", &source.stat, AT_EMPTY_PATH) != 0) return failed("fstatat");
  const bool file = S_ISREG(source.stat.st_mode), directory = S_ISDIR(source.stat.st_mode);
  if (!file && !directory) return source;
  // Through the descriptor it is the same file, whatever its name stands for by now.
  const std::string name = fd_name(source.fd.get());
  const int flags = O_RDONLY | (directory ? O_DIRECTORY : 0);
  Fd opened(sys::openat(AT_FDCWD, name.c_str(), flags | O_NOATIME));
  if (!opened && errno == EPERM) opened.reset(sys::openat(AT_FDCWD, name.c_str(), flags));
  if (!opened) return failed("openat", "O_RDONLY");
  source.fd = std::move(opened);
  source.path_only = false;
  return source;
}

Result<Source> open_source(int parent, const std::string& name) {
  Fd path(sys::openat(parent, name.c_str(), O_PATH | O_NOFOLLOW));
  if (!path) return failed("openat", "O_PATH | O_NOFOLLOW", name);
  return open_source(std::move(path));
}

Result<CopiedEntry> copy_file(const Source& metadata, const Source& data, int to_parent,
                              const std::string& name, const CopyOptions& options) {
  const int staging = options.staging >= 0 ? options.staging : to_parent;
  const Fd unnamed(sys::openat(staging, ".", O_TMPFILE | O_WRONLY, 0600));
  if (unnamed) {
    const CopiedEntry copied = TRY(fill_file(metadata, data, unnamed.get(), options));
    TRY(link_into_place(unnamed.get(), to_parent, name));
    return copied;
  }
  // EISDIR: a kernel that does not know the flag.
  if (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL) return failed("openat", "O_TMPFILE", name);
  std::string temporary;
  Fd file;
  do {
    temporary = staged_name();
    file.reset(sys::openat(staging, temporary.c_str(), O_CREAT | O_EXCL | O_WRONLY | O_NOFOLLOW, 0600));
  } while (!file && errno == EEXIST);  // left by a process that had the same number
  if (!file) return failed("openat", "O_CREAT | O_EXCL", name);
  Staged staged(staging, std::move(temporary), false);
  CopiedEntry copied = TRY(fill_file(metadata, data, file.get(), options));
  TRY(staged.place(to_parent, name));
  return copied;
}

Result<CopiedEntry> copy_entry(const Source& from, int to_parent, const std::string& name,
                               const CopyOptions& options) {
  if (S_ISREG(from.stat.st_mode)) return copy_file(from, from, to_parent, name, options);
  if (cancelled(options.control.cancel)) return SysError{ECANCELED, "openat", "aborted", name, {}};
  const int staging = options.staging >= 0 ? options.staging : to_parent;
  std::string temporary = staged_name();
  auto made_there = make(from, staging, temporary.c_str());
  while (!made_there && made_there.error().err == EEXIST) {  // left by a process that had the same number
    temporary = staged_name();
    made_there = make(from, staging, temporary.c_str());
  }
  TRY(std::move(made_there));
  const bool directory = S_ISDIR(from.stat.st_mode);
  Staged staged(staging, std::move(temporary), directory);
  const Fd made = TRY(open_staged(staged, staging, directory ? O_RDONLY | O_DIRECTORY : O_PATH));
  CopiedEntry copied;
  copied.dropped = TRY(copy_metadata(from.inode(), {made.get(), !directory}, from.stat, options.metadata));
  TRY(staged.place(to_parent, name));
  return copied;
}

Result<CopiedEntry> copy_entry(int from_parent, const std::string& name, int to_parent,
                               const std::string& new_name, const CopyOptions& options) {
  const Source from = TRY(open_source(from_parent, name));
  return copy_entry(from, to_parent, new_name, options);
}

}  // namespace overlayfs
