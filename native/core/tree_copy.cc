#include "tree_copy.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <utility>

#include "beneath.h"
#include "directory.h"
#include "sys.h"
#include "tree_path.h"

namespace overlayfs {
namespace {

// Whether somebody has the file open for writing, or mapped so: a lease for reading is then refused
// (fcntl(2)). It is given back at once, and whoever opens the file in between is told by a signal that is
// ignored unless asked for, not by SIGIO, which would end the process. Unknown counts as no.
bool has_writer(int file) {
  if (sys::set_signal(file, SIGURG) != 0) return false;
  if (sys::set_lease(file, F_RDLCK) != 0) return errno == EAGAIN;
  sys::set_lease(file, F_UNLCK);
  return false;
}

// Whether a process has bound the socket: unix(7) refuses a datagram socket with ECONNREFUSED where nobody
// has. Stream sockets are not disturbed: EPROTOTYPE.
Result<bool> is_bound(int inode) {
  const Fd probe(sys::socket(AF_UNIX, SOCK_DGRAM));
  if (!probe) return failed("socket", "AF_UNIX, SOCK_DGRAM");
  if (sys::connect_to(probe.get(), fd_name(inode).c_str()) == 0 || errno == EPROTOTYPE) return true;
  if (errno == ECONNREFUSED) return false;
  return failed("connect", "AF_UNIX");
}

// A part of a path, for as long as what it names is being dealt with.
class PathStep {
 public:
  PathStep(std::string& path, const std::string& name) : path_(path), size_(path.size()) {
    path_ += '/';
    path_ += name;
  }
  PathStep(const PathStep&) = delete;
  PathStep& operator=(const PathStep&) = delete;
  ~PathStep() { path_.resize(size_); }

 private:
  std::string& path_;
  size_t size_;
};

}  // namespace

TreeCopy::TreeCopy(std::string path, const Cancel& cancel, const std::function<bool()>& exiting,
                   Progress progress)
    : path_(std::move(path)),
      exiting_(exiting),
      progress_(progress ? std::move(progress) : std::make_shared<ProgressCounts>()) {
  options_.control = {.cancel = cancel, .copied = &progress_->bytes};
}

Result<RecordedEntry> TreeCopy::copy(int from_parent, const std::string& from_name, int to,
                                     const std::string& name) {
  staging_ = to;
  copy_path_ = name;
  auto copied = copy_into(from_parent, from_name, to, name, 0);
  if (!copied) copied.error().path = path_;
  return copied;
}

SysError TreeCopy::refuse(int error, const char* call, const char* why) {
  refused_ = true;
  return {error, call, why, {}, {}};
}

Result<void> TreeCopy::check(const Source& from) {
  if (cancelled(options_.control.cancel) || exiting_())
    return SysError{ECANCELED, "openat2", "aborted", {}, {}};
  abi::Statx stx{};
  if (sys::statx(from.fd.get(), "", AT_EMPTY_PATH, 0, &stx) != 0 && errno != ENOSYS && errno != EPERM)
    return failed("statx");
  if ((stx.attributes & abi::kStatxImmutable) != 0) return refuse(EPERM, "statx", "it is immutable");
  if ((stx.attributes & abi::kStatxAppend) != 0) return refuse(EPERM, "statx", "it is append-only");
  const mode_t mode = from.stat.st_mode;
  if (S_ISREG(mode) && has_writer(from.fd.get())) return refuse(EBUSY, "fcntl", "it is open for writing");
  if (S_ISSOCK(mode) && TRY(is_bound(from.fd.get())))
    return refuse(EBUSY, "connect", "a process has bound the socket");
  // Without it nothing in there could be removed, when it is too late to go back.
  if (S_ISDIR(mode) && sys::faccessat(from.fd.get(), ".", W_OK | X_OK) != 0)
    return failed("faccessat", "W_OK");
  return {};
}

// On an error, `path_` stays where it was met.
Result<RecordedEntry> TreeCopy::copy_into(int from_parent, const std::string& from_name, int to,
                                          const std::string& name, size_t depth) {
  if (depth > kDeepestTree) return refuse(ENAMETOOLONG, "openat2", "it lies deeper than any path leads");
  auto opened = open_beneath(from_parent, from_name, O_PATH);
  if (!opened && opened.error().err == ENOENT)
    return SysError{ESTALE, "openat2", "it has been removed meanwhile", {}, {}};
  if (!opened && opened.error().err == EXDEV) return refuse(EBUSY, "openat2", "something is mounted on it");
  const Source from = TRY(open_source(TRY(std::move(opened))));
  TRY(check(from));
  RecordedEntry entry{from_name, Look(from.stat), {}};
  TRY(entry.look.is_directory() ? copy_directory(from, entry, to, name, depth)
                                : copy_other(from, entry.look, to, name));
  progress_->entries.fetch_add(1, std::memory_order_relaxed);
  return entry;
}

// Its own attributes come last: what is made in it changes its times, its mode may forbid to make anything,
// and its default ACL would be given to all of that.
Result<void> TreeCopy::copy_directory(const Source& from, RecordedEntry& entry, int to,
                                      const std::string& name, size_t depth) {
  if (sys::mkdirat(to, name.c_str(), 0700) != 0) return failed("mkdirat");
  const Fd made = TRY(open_beneath(to, name, O_RDONLY | O_DIRECTORY));
  const std::vector<std::string> names = TRY(sorted_names(from.fd.get()));
  entry.children.reserve(names.size());
  for (const std::string& child : names) {
    const size_t length = path_.size();
    const PathStep step(copy_path_, child);
    path_ += '/';
    path_ += child;
    entry.children.push_back(TRY(copy_into(from.fd.get(), child, made.get(), child, depth + 1)));
    path_.resize(length);
  }
  const auto dropped = TRY(copy_metadata(from.inode(), {made.get(), false}, from.stat, options_.metadata));
  if (!dropped.empty()) return SysError{EOPNOTSUPP, "setxattr", dropped.front(), {}, {}};
  return {};
}

Result<void> TreeCopy::copy_other(const Source& from, const Look& look, int to, const std::string& name) {
  if (look.links > 1 && TRY(link_to_copy(look, to, name))) return {};
  const CopiedEntry copied = TRY(copy_entry(from, to, name, options_));
  // A rename(2) would lose none.
  if (!copied.dropped.empty()) return SysError{EOPNOTSUPP, "setxattr", copied.dropped.front(), {}, {}};
  return {};
}

// Layers may be snapshots of each other, in which other files have the same numbers: they must look the same
// too.
Result<bool> TreeCopy::link_to_copy(const Look& look, int to, const std::string& name) {
  const auto [found, is_new] = linked_.try_emplace({look.device, look.inode}, Linked{look, copy_path_});
  if (is_new || !(found->second.look == look)) return false;
  const Place first = TRY(place_beneath(staging_, found->second.path));
  if (sys::linkat(first.parent.get(), first.name.c_str(), to, name.c_str(), 0) != 0) {
    if (errno == EMLINK) return false;
    return failed("linkat");
  }
  return true;
}

}  // namespace overlayfs
