#include "directory_probe.h"

#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <array>
#include <atomic>

#include "sys.h"

namespace overlayfs {
namespace {

constexpr int kNotTried = -1;

int outcome(long result) { return result < 0 ? errno : 0; }

// Whether directory entries tell their type (xfs with ftype=0 does not). Needs an entry beside `.` and `..`.
int entry_types(int directory) {
  struct Entry {
    uint64_t ino;
    int64_t off;
    unsigned short reclen;
    unsigned char type;
    char name[];
  };
  alignas(8) std::array<char, 4096> buffer;
  // Opened now: btrfs shows a descriptor only what was there when it was opened.
  const Fd opened(sys::openat(directory, ".", O_RDONLY | O_DIRECTORY));
  const long size = syscall(SYS_getdents64, opened.get(), buffer.data(), buffer.size());
  if (size < 0) return errno;
  for (long at = 0; at < size;) {
    const auto* entry = reinterpret_cast<const Entry*>(&buffer[static_cast<size_t>(at)]);
    const std::string name = entry->name;
    if (name != "." && name != "..") return entry->type == DT_UNKNOWN ? EOPNOTSUPP : 0;
    at += entry->reclen;
  }
  return kNotTried;
}

int readable_attributes(int directory, const char* name) {
  return sys::fgetxattr(directory, name, nullptr, 0) >= 0 || errno == ENODATA ? 0 : errno;
}

int settable_attribute(int file, const char* name) { return outcome(sys::fsetxattr(file, name, "y", 1)); }

int reflink(int directory) {
  const Fd from(sys::openat(directory, "from", O_RDWR | O_CREAT | O_EXCL, 0600));
  const Fd to(sys::openat(directory, "to", O_RDWR | O_CREAT | O_EXCL, 0600));
  if (!from || !to) return errno;
  // An empty clone succeeds on file systems that only pretend.
  const std::array<char, 4096> block{};
  if (::write(from.get(), block.data(), block.size()) < 0) return errno;
  return outcome(sys::ficlone(to.get(), from.get()));
}

// A directory of our own inside the probed one, with nothing in it when it goes.
class Workshop {
 public:
  explicit Workshop(int parent) : parent_(parent) {
    // A name that no other thread, process or earlier one has: taken ones are passed over.
    static std::atomic<unsigned> count{0};
    do {
      name_ = ".overlayfs-probe-" + std::to_string(::getpid()) + "-" + std::to_string(++count);
      made_ = sys::mkdirat(parent_, name_.c_str(), 0700) == 0;
    } while (!made_ && errno == EEXIST);
    if (made_) directory_ = Fd(sys::openat(parent_, name_.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
    if (!directory_) error_ = errno;
  }
  Workshop(const Workshop&) = delete;
  Workshop& operator=(const Workshop&) = delete;
  ~Workshop() {
    if (!made_) return;
    for (const char* name : {"file", "moved", "whiteout", "from", "to"})
      sys::unlinkat(directory_.get(), name, 0);
    sys::unlinkat(parent_, name_.c_str(), AT_REMOVEDIR);
  }
  int directory() const { return directory_.get(); }
  int error() const { return directory_ ? 0 : error_; }

 private:
  int parent_;
  std::string name_;
  bool made_ = false;
  int error_ = 0;
  Fd directory_;
};

}  // namespace

Result<std::vector<ProbeAnswer>> probe_directory(const DirectoryRef& ref, bool writable) {
  const Fd located = TRY(open_directory(ref));
  const Fd directory = TRY(reopen_readable(located.get(), ref.shown()));
  const int fd = directory.get();
  std::vector<ProbeAnswer> answers = {
      {"fileHandles", sys::has_file_handles(fd) ? 0 : EOPNOTSUPP},
  };
  if (!writable) {
    answers.push_back({"entryTypes", entry_types(fd)});
    answers.push_back({"trustedXattr", readable_attributes(fd, "trusted.overlay.opaque")});
    answers.push_back({"userXattr", readable_attributes(fd, "user.overlay.opaque")});
    return answers;
  }
  const Workshop workshop(fd);
  answers.push_back({"writable", workshop.error()});
  if (workshop.error() != 0) return answers;
  const int inside = workshop.directory();
  const Fd file(sys::openat(inside, "file", O_RDWR | O_CREAT | O_EXCL, 0600));
  answers.push_back({"entryTypes", entry_types(inside)});
  answers.push_back({"trustedXattr", settable_attribute(file.get(), "trusted.overlay.opaque")});
  answers.push_back({"userXattr", settable_attribute(file.get(), "user.overlay.opaque")});
  answers.push_back({"whiteout", outcome(sys::mknodat(inside, "whiteout", S_IFCHR, 0))});
  answers.push_back({"renameWhiteout",
                     outcome(sys::renameat2(inside, "file", inside, "moved", abi::rename_flag::WHITEOUT))});
  answers.push_back({"tmpfile", outcome(Fd(sys::openat(inside, ".", O_TMPFILE | O_RDWR, 0600)).get())});
  answers.push_back({"reflink", reflink(inside)});
  return answers;
}

int try_user_namespace() {
  // No signal at its end, so that nobody's SIGCHLD handler hears of it; the child makes no call but _exit.
  const long child = syscall(SYS_clone, CLONE_NEWUSER, nullptr, nullptr, nullptr, nullptr);
  if (child == 0) _exit(0);
  if (child < 0) return errno;
  while (::waitpid(static_cast<pid_t>(child), nullptr, __WCLONE) < 0 && errno == EINTR) {
  }
  return 0;
}

}  // namespace overlayfs
