#include "mounted_copy_up.h"

#include <fcntl.h>
#include <time.h>

#include <algorithm>
#include <utility>

#include "beneath.h"
#include "directory.h"
#include "mount_info.h"
#include "proc.h"
#include "sys.h"
#include "thread.h"

namespace overlayfs {
namespace {

constexpr size_t kPathsInBatch = 1000, kPathBytesInBatch = size_t{4} << 20;

Result<abi::Statx> look_at(int inode) {
  abi::Statx stx{};
  constexpr unsigned mask = abi::statx_mask::BASIC_STATS | abi::statx_mask::BTIME;
  if (sys::statx(inode, "", AT_EMPTY_PATH, mask, &stx) != 0) return failed("statx");
  return stx;
}

bool later(const abi::StatxTime& time, const timespec& than) {
  return time.sec != than.tv_sec ? time.sec > than.tv_sec : time.nsec >= static_cast<uint64_t>(than.tv_nsec);
}

// A copy in the upper is another inode, born now. So that it cannot seem to be as old as the file that it is
// a copy of, the clock that file systems read must have gone on since that one was born: a tick, at most 10
// ms.
void let_the_clock_go_on(const abi::Statx& before) {
  for (int i = 0; i < 10; ++i) {
    timespec now{};
    clock_gettime(CLOCK_REALTIME_COARSE, &now);
    if (!later(before.btime, now) || before.btime.sec > now.tv_sec + 1) return;
    const timespec pause{.tv_sec = 0, .tv_nsec = 1'000'000};
    nanosleep(&pause, nullptr);
  }
}

MountedOutcome compare(const abi::Statx& before, const abi::Statx& after, bool opened) {
  if ((before.mask & after.mask & abi::statx_mask::BTIME) == 0) return MountedOutcome::copied_or_present;
  if (!(before.btime == after.btime)) return MountedOutcome::copied;
  // To open a file changes none of its times, but completing one that had only its metadata in the upper
  // does.
  return opened && !(before.ctime == after.ctime) ? MountedOutcome::copied : MountedOutcome::present;
}

// Sets the time of last access to what it is. Never chown(2) or chmod(2), which strip set-user-ID bits and
// file capabilities; and not the time of modification, which somebody may have just changed.
Result<void> touch(int inode, const abi::Statx& before) {
  const timespec times[2] = {{.tv_sec = before.atime.sec, .tv_nsec = before.atime.nsec},
                             {.tv_sec = 0, .tv_nsec = UTIME_OMIT}};
  if (sys::utimensat(inode, "", times, AT_EMPTY_PATH) == 0) return {};
  // Before Linux 5.8 only a name will do; this one leads to the inode itself, a symbolic link's too.
  if (errno == EINVAL && sys::utimensat(AT_FDCWD, fd_name(inode).c_str(), times, 0) == 0) return {};
  return failed("utimensat");
}

bool shows_metacopy(int root) {
  auto identity = identify(root, {});
  if (!identity) return false;
  auto info = mount_info(identity->mount_id, identity->unique_mount_id);
  return info && ("," + info->options + ",").find(",metacopy=on,") != std::string::npos;
}

Result<std::vector<std::string>> names_in(int directory) {
  const Fd readable = TRY(reopen_readable(directory, {}));
  const auto stream = std::make_unique<DirectoryStream>();
  stream->start(readable.get());
  std::vector<std::string> names;
  while (const char* name = stream->next()) names.emplace_back(name);
  if (stream->error() != 0) return SysError{stream->error(), "getdents64", {}, {}, {}};
  return names;
}

}  // namespace

MountedCopyUp::MountedCopyUp(Fd root, const std::vector<std::string>& paths,
                             const MountedCopyUpOptions& options)
    : root_(std::move(root)),
      options_(options),
      metacopy_(options.metacopy || shows_metacopy(root_.get())),
      places_(root_.get(), O_PATH | O_DIRECTORY, open_in_root) {
  waiting_.reserve(paths.size());
  for (auto path = paths.rbegin(); path != paths.rend(); ++path) waiting_.push_back({nullptr, *path});
}

Result<MountedOutcome> MountedCopyUp::copy_up_inode(int inode, mode_t type) {
  const abi::Statx before = TRY(look_at(inode));
  if ((before.attributes & abi::kStatxImmutable) != 0) return MountedOutcome::immutable;
  if ((before.attributes & abi::kStatxAppend) != 0) return MountedOutcome::append_only;
  let_the_clock_go_on(before);
  bool opened = false;
  if (S_ISREG(type)) {
    opened = static_cast<bool>(Fd(sys::openat(AT_FDCWD, fd_name(inode).c_str(), O_WRONLY | O_NONBLOCK)));
    if (!opened && errno != ETXTBSY) return failed("openat", "O_WRONLY");
  }
  if (!opened) TRY(touch(inode, before));
  const MountedOutcome outcome = compare(before, TRY(look_at(inode)), opened);
  const bool runs = S_ISREG(type) && !opened;
  return runs && metacopy_ ? MountedOutcome::metadata : outcome;
}

Result<Fd> MountedCopyUp::locate(const Item& item) {
  if (!item.above) return open_in_root(root_.get(), item.name, O_PATH);
  const std::shared_ptr<const Fd> directory = TRY(places_.open(*item.above));
  return open_beneath(directory->get(), item.name, O_PATH);
}

Result<MountedEntry> MountedCopyUp::copy_up(const Item& item, std::optional<Children>& children) {
  const auto finish = [&](MountedOutcome outcome, uint64_t bytes = 0) {
    return MountedEntry{path_in_tree(item.above.get(), item.name), outcome, bytes};
  };
  const auto explain = [&](SysError& error) {
    error.path = path_in_tree(item.above.get(), item.name);
    return std::move(error);
  };
  // Located first, opened by that: nothing else can take its place in between, such as a device.
  auto inode = locate(item);
  if (!inode) {
    const int error = inode.error().err;
    const bool gone = error == ENOENT || error == ENOTDIR || error == ELOOP;
    if (item.above && gone) return finish(MountedOutcome::vanished);
    if (item.above && error == EXDEV) return finish(MountedOutcome::other_mount);
    return explain(inode.error());
  }
  struct stat st {};
  if (sys::fstatat(inode->get(), "", &st, AT_EMPTY_PATH) != 0)
    return failed("fstatat", {}, path_in_tree(item.above.get(), item.name));
  auto outcome = copy_up_inode(inode->get(), st.st_mode);
  if (!outcome) return explain(outcome.error());
  if (options_.recursive && S_ISDIR(st.st_mode)) {
    auto names = names_in(inode->get());
    if (!names) return explain(names.error());
    children = Children{std::make_shared<const Fd>(*std::move(inode)), *std::move(names)};
  }
  const bool is_copy = *outcome == MountedOutcome::copied || *outcome == MountedOutcome::copied_or_present;
  return finish(*outcome, is_copy && S_ISREG(st.st_mode) ? static_cast<uint64_t>(st.st_size) : 0);
}

void MountedCopyUp::enqueue(Item item, Children children) {
  const auto above = std::make_shared<TreePlace>(std::move(item.above), std::move(item.name));
  places_.keep(*above, std::move(children.directory));
  for (std::string& name : children.names) waiting_.push_back({above, std::move(name)});
}

void MountedCopyUp::work(const Cancel& cancel) {
  std::unique_lock lock(mutex_);
  while (!failure_ && done_.size() + under_way_ < kPathsInBatch && done_bytes_ < kPathBytesInBatch) {
    if (waiting_.empty()) {
      if (under_way_ == 0) break;
      changed_.wait(lock);
      continue;
    }
    if (cancelled(cancel)) {
      failure_ = SysError{ECANCELED, "openat", "aborted", {}, {}};
      break;
    }
    Item item = std::move(waiting_.back());
    waiting_.pop_back();
    ++under_way_;
    lock.unlock();
    std::optional<Children> children;
    auto entry = copy_up(item, children);
    lock.lock();
    --under_way_;
    if (entry) {
      if (options_.progress) {
        options_.progress->entries.fetch_add(1, std::memory_order_relaxed);
        options_.progress->bytes.fetch_add(entry->bytes, std::memory_order_relaxed);
      }
      done_bytes_ += entry->path.size();
      done_.push_back(*std::move(entry));
    } else if (!failure_) {
      failure_ = std::move(entry.error());
    }
    if (children) enqueue(std::move(item), *std::move(children));
    changed_.notify_all();
  }
  changed_.notify_all();
}

Result<std::vector<MountedEntry>> MountedCopyUp::next(const Cancel& cancel) {
  // A directory may turn out to hold enough for all.
  const size_t useful =
      options_.recursive ? options_.threads : std::min<size_t>(options_.threads, waiting_.size());
  size_t helpers = 0;
  for (size_t i = 1; i < useful; ++i) {
    const auto help = [this, &cancel, &helpers] {
      work(cancel);
      const std::lock_guard lock(mutex_);
      --helpers;
      changed_.notify_all();
    };
    const std::lock_guard lock(mutex_);
    if (start_thread(help, false) == 0) ++helpers;  // fewer will do
  }
  work(cancel);
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return helpers == 0; });
  // What has been done is told first.
  if (failure_ && done_.empty()) return *failure_;
  done_bytes_ = 0;
  return std::exchange(done_, {});
}

}  // namespace overlayfs
