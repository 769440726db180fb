#include "store_steps.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <array>
#include <iterator>

#include "beneath.h"
#include "in_use.h"
#include "remove_tree.h"
#include "rename.h"
#include "store_lock.h"
#include "sys.h"
#include "write_all.h"

namespace overlayfs {
namespace {

constexpr const char* kActions[] = {
    "lock-shared", "lock-exclusive", "unlock",   "expect", "unused", "mkdir",  "write", "replace", "ensure",
    "symlink",     "rename",         "exchange", "unlink", "rmdir",  "remove", "sync",  "syncfs"};

class Steps {
 public:
  Steps(int root, bool durable) : root_(root), durable_(durable) {}

  Result<void> carry_out(const StoreStep& step) {
    switch (step.action) {
      case StoreAction::lock_shared:
        return lock(step, StoreLock::shared);
      case StoreAction::lock_exclusive:
        return lock(step, StoreLock::exclusive);
      case StoreAction::unlock:
        locks_.clear();
        return {};
      case StoreAction::expect:
        return expect(step);
      case StoreAction::unused:
        return unused(step);
      case StoreAction::mkdir:
        return mkdir(step);
      case StoreAction::write:
        return write(TRY(place_beneath(root_, step.path)), step);
      case StoreAction::replace:
        return replace(step);
      case StoreAction::ensure:
        return ensure(step);
      case StoreAction::symlink:
        return symlink(step);
      case StoreAction::rename:
        return rename(step);
      case StoreAction::exchange:
        return exchange(step);
      case StoreAction::unlink:
        return unlink(step, 0);
      case StoreAction::rmdir:
        return unlink(step, AT_REMOVEDIR);
      case StoreAction::remove:
        return remove(step);
      case StoreAction::sync:
        return durable_ ? sync(step) : Result<void>();
      case StoreAction::syncfs:
        return durable_ ? syncfs(step) : Result<void>();
    }
    return SysError{EINVAL, "openat2", {}, {}, {}};
  }

 private:
  Result<void> lock(const StoreStep& step, StoreLock kind) {
    locks_.push_back(TRY(lock_directory(root_, step.path, kind)));
    return {};
  }

  Result<void> expect(const StoreStep& step) const {
    const Fd file = TRY(open_beneath(root_, step.path, O_RDONLY | O_NONBLOCK));
    std::array<char, 4096> buffer;
    std::string found;
    while (found.size() <= step.other.size()) {
      const ssize_t size = sys::read(file.get(), buffer.data(), buffer.size());
      if (size < 0) return failed("read");
      if (size == 0) break;
      found.append(buffer.data(), static_cast<size_t>(size));
    }
    if (found != step.other) return SysError{ESTALE, "read", "it is another layer by now", step.path, {}};
    return {};
  }

  Result<void> unused(const StoreStep& step) const {
    OpenLayer directory{TRY(open_beneath(root_, step.path, O_PATH | O_DIRECTORY)), {}, {}};
    directory.identity = TRY(identify(directory.fd.get(), step.path));
    if (probe_in_use(directory, step.mode != 0).answer != InUse::upper) return {};
    return SysError{EBUSY, "fsconfig", "CMD_CREATE, index=on", step.path, {}};
  }

  // The process's umask and the directory's default ACL have a say in what a new file is given.
  Result<void> mkdir(const StoreStep& step) const {
    const Place place = TRY(place_beneath(root_, step.path));
    if (sys::mkdirat(place.parent.get(), place.name.c_str(), step.mode) != 0) return failed("mkdirat");
    struct stat made {};
    if (sys::fstatat(place.parent.get(), place.name.c_str(), &made, AT_SYMLINK_NOFOLLOW) != 0)
      return failed("fstatat");
    if ((made.st_mode & 07777) == step.mode) return {};
    const Fd directory = TRY(open_beneath(place.parent.get(), place.name, O_RDONLY | O_DIRECTORY));
    if (sys::fchmod(directory.get(), step.mode) != 0) return failed("fchmod");
    return {};
  }

  Result<void> write(const Place& place, const StoreStep& step) const {
    const Fd file(sys::openat(place.parent.get(), place.name.c_str(),
                              O_CREAT | O_EXCL | O_WRONLY | O_NOFOLLOW, step.mode));
    if (!file) return failed("openat", "O_CREAT | O_EXCL");
    if (sys::fchmod(file.get(), step.mode) != 0) return failed("fchmod");
    TRY(write_all(file.get(), step.other));
    if (durable_ && sys::fsync(file.get()) != 0) return failed("fsync");
    return {};
  }

  Result<void> replace(const StoreStep& step) const {
    const Place place = TRY(place_beneath(root_, step.path));
    const std::string aside = "." + place.name.substr(0, 200) + ".new";
    // What a process left that was killed over it: whoever writes here holds the lock.
    if (sys::unlinkat(place.parent.get(), aside.c_str(), 0) != 0 && errno != ENOENT)
      return failed("unlinkat", {}, aside);
    auto written = write({Fd(sys::dup_fd(place.parent.get())), aside}, step);
    if (written &&
        sys::renameat2(place.parent.get(), aside.c_str(), place.parent.get(), place.name.c_str(), 0) != 0)
      written = failed("renameat2");
    if (!written) sys::unlinkat(place.parent.get(), aside.c_str(), 0);
    return written;
  }

  Result<void> ensure(const StoreStep& step) const {
    const Place place = TRY(place_beneath(root_, step.path));
    auto written = write(place, step);
    if (!written && written.error().err == EEXIST) return {};
    return written;
  }

  Result<void> symlink(const StoreStep& step) const {
    const Place place = TRY(place_beneath(root_, step.path));
    if (sys::symlinkat(step.other.c_str(), place.parent.get(), place.name.c_str()) != 0)
      return failed("symlinkat");
    return {};
  }

  Result<void> rename(const StoreStep& step) const {
    const Place from = TRY(place_beneath(root_, step.path)), to = TRY(place_beneath(root_, step.other));
    return rename_noreplace({from.parent.get(), from.name}, {to.parent.get(), to.name});
  }

  Result<void> exchange(const StoreStep& step) const {
    const Place one = TRY(place_beneath(root_, step.path)), other = TRY(place_beneath(root_, step.other));
    if (TRY(rename_exchange({one.parent.get(), one.name}, {other.parent.get(), other.name}))) return {};
    return SysError{EINVAL, "renameat2", "RENAME_EXCHANGE", step.path, {}};
  }

  Result<void> unlink(const StoreStep& step, int flags) const {
    const Place place = TRY(place_beneath(root_, step.path));
    if (sys::unlinkat(place.parent.get(), place.name.c_str(), flags) != 0 && errno != ENOENT)
      return failed("unlinkat", flags == 0 ? "" : "AT_REMOVEDIR");
    return {};
  }

  Result<void> remove(const StoreStep& step) const {
    const Place place = TRY(place_beneath(root_, step.path));
    return remove_tree(place.parent.get(), place.name);
  }

  Result<void> sync(const StoreStep& step) const {
    const Fd directory = TRY(open_beneath(root_, step.path, O_RDONLY | O_DIRECTORY));
    if (sys::fsync(directory.get()) != 0) return failed("fsync");
    return {};
  }

  Result<void> syncfs(const StoreStep& step) const {
    const Fd directory = TRY(open_beneath(root_, step.path, O_RDONLY | O_DIRECTORY));
    if (sys::syncfs(directory.get()) != 0) return failed("syncfs");
    return {};
  }

  int root_;
  bool durable_;
  std::vector<Fd> locks_;
};

}  // namespace

const char* store_action_name(StoreAction action) {
  const auto index = static_cast<size_t>(action);
  return index < std::size(kActions) ? kActions[index] : "";
}

std::optional<StoreFailure> run_store_steps(int root, const std::vector<StoreStep>& steps, bool durable) {
  Steps run(root, durable);
  for (size_t at = 0; at < steps.size(); ++at) {
    auto done = run.carry_out(steps[at]);
    if (done) continue;
    if (done.error().path.empty()) done.error().path = steps[at].path;
    return StoreFailure{std::move(done.error()), at};
  }
  return {};
}

}  // namespace overlayfs
