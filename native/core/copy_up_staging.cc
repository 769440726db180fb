#include "copy_up_staging.h"

#include <fcntl.h>

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "copy_entry.h"
#include "directory.h"
#include "in_use.h"
#include "proc.h"
#include "sys.h"

namespace overlayfs {
namespace {

constexpr const char* kInWork = "work";
constexpr const char* kInUpper = "#overlayfs-staging";

Result<Fd> duplicate(int fd) {
  Fd copy(sys::dup_fd(fd));
  if (!copy) return failed("fcntl", "F_DUPFD_CLOEXEC");
  return copy;
}

// True: it was not there.
Result<bool> make_if_missing(int parent, const char* name, mode_t mode) {
  if (sys::mkdirat(parent, name, mode) == 0) return true;
  if (errno == EEXIST) return false;
  return failed("mkdirat", name);
}

Result<Fd> open_directory_at(int parent, const char* name, int flags) {
  Fd opened(sys::openat(parent, name, flags | O_DIRECTORY | O_NOFOLLOW));
  if (!opened) return failed("openat", name);
  return opened;
}

}  // namespace

Result<CopyUpStaging> CopyUpStaging::in_work(int work) {
  CopyUpStaging staging;
  staging.name_ = kInWork;
  staging.parent_ = TRY(duplicate(work));
  staging.made_ = TRY(make_if_missing(work, kInWork, 0));  // the kernel's mode
  staging.directory_ = TRY(open_directory_at(work, kInWork, O_PATH));
  staging.readable_ = TRY(open_directory_at(work, kInWork, O_RDONLY));
  TRY(staging.remove_leftovers());
  return staging;
}

Result<CopyUpStaging> CopyUpStaging::in_upper(int upper) {
  CopyUpStaging staging;
  staging.name_ = kInUpper;
  staging.parent_ = TRY(duplicate(upper));
  if (sys::fstatat(upper, "", &staging.parent_before_, AT_EMPTY_PATH) != 0) return failed("fstatat");
  while (true) {
    staging.made_ = TRY(make_if_missing(upper, kInUpper, 0700));
    staging.directory_ = TRY(open_directory_at(upper, kInUpper, O_PATH));
    staging.restores_times_ = staging.made_;
    auto locked = lock_work_directory({TRY(duplicate(staging.directory_.get())), kInUpper, {}});
    // Whoever was faster works in it, and takes it away.
    if (!locked && locked.error().err == EWOULDBLOCK) staging.made_ = false;
    staging.readable_ = TRY(std::move(locked));
    // Whoever had the lock may have removed the directory when he was done.
    struct stat st {};
    if (sys::fstatat(staging.directory_.get(), "", &st, AT_EMPTY_PATH) != 0) return failed("fstatat");
    if (st.st_nlink > 0) break;
  }
  staging.made_ = true;  // left by a process that was killed: it goes with this one
  TRY(staging.remove_leftovers());
  return staging;
}

CopyUpStaging::~CopyUpStaging() {
  if (!made_ || !parent_) return;
  sys::unlinkat(parent_.get(), name_, AT_REMOVEDIR);
  if (restores_times_) static_cast<void>(!set_times({parent_.get(), true}, parent_before_));
}

Result<void> CopyUpStaging::remove_leftovers() {
  const auto entries = std::make_unique<DirectoryStream>();
  std::vector<std::string> leftovers;
  entries->start(readable_.get());
  while (const char* name = entries->next()) {
    if (std::string_view(name).starts_with(kStagedName)) leftovers.emplace_back(name);
  }
  if (entries->error() != 0) return SysError{entries->error(), "getdents64", {}, name_, {}};
  for (const std::string& name : leftovers) {
    // A directory is staged empty; one that is not is none of ours, and stays.
    if (sys::unlinkat(directory_.get(), name.c_str(), 0) != 0 && errno == EISDIR)
      sys::unlinkat(directory_.get(), name.c_str(), AT_REMOVEDIR);
  }
  return {};
}

}  // namespace overlayfs
