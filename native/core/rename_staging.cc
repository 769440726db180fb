#include "rename_staging.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/random.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <string_view>
#include <tuple>

#include "beneath.h"
#include "copy_metadata.h"
#include "directory.h"
#include "recorded_tree.h"
#include "sys.h"

namespace overlayfs {
namespace {

constexpr std::string_view kPrefix = ".overlayfs-rename-";
constexpr size_t kDigits = 16;
constexpr std::string_view kMarkerText =
    "A rename by the npm package overlayfs builds a copy of a directory here. If no process holds a lock on\n"
    "this directory, it was killed: the next rename to the directory above removes this, and so may you.\n";

std::string random_name() {
  uint64_t number = 0;
  if (::getrandom(&number, sizeof number, 0) != sizeof number) number = static_cast<uint64_t>(::getpid());
  std::array<char, kDigits + 1> digits;
  std::snprintf(digits.data(), digits.size(), "%016llx", static_cast<unsigned long long>(number));
  return std::string(kPrefix) + digits.data();
}

bool is_staging_name(std::string_view name) {
  return name.size() == kPrefix.size() + kDigits && name.starts_with(kPrefix) &&
         name.find_first_not_of("0123456789abcdef", kPrefix.size()) == std::string_view::npos;
}

// A default ACL of the parent has been given to it, and would be to all that is made in it.
Result<void> drop_acls(int directory) {
  for (const char* name : {"system.posix_acl_default", "system.posix_acl_access"}) {
    if (sys::fremovexattr(directory, name) != 0 && errno != ENODATA && errno != EOPNOTSUPP)
      return failed("fremovexattr", name);
  }
  if (sys::fchmod(directory, 0700) != 0) return failed("fchmod");
  return {};
}

Result<void> write_marker(int directory) {
  const Fd marker(
      sys::openat(directory, RenameStaging::kMarker, O_CREAT | O_EXCL | O_WRONLY | O_NOFOLLOW, 0600));
  if (!marker) return failed("openat", "O_CREAT | O_EXCL", RenameStaging::kMarker);
  if (sys::write(marker.get(), kMarkerText.data(), kMarkerText.size()) < 0) return failed("write");
  return {};
}

bool has_our_marker(int directory) {
  auto marker = open_beneath(directory, RenameStaging::kMarker, O_RDONLY | O_NONBLOCK);
  if (!marker) return false;
  std::array<char, kMarkerText.size() + 1> text;
  const ssize_t size = sys::read(marker->get(), text.data(), text.size());
  return size >= 0 && std::string_view(text.data(), static_cast<size_t>(size)) == kMarkerText;
}

void remove_if_stale(int parent, const std::string& name) {
  auto opened = open_beneath(parent, name, O_RDONLY | O_DIRECTORY);
  if (!opened) return;
  const int directory = opened->get();
  auto st = stat_of(directory);
  if (!st || st->st_uid != ::geteuid() || (st->st_mode & 0777) != 0700) return;
  if (sys::flock(directory, LOCK_EX | LOCK_NB) != 0) return;
  auto names = sorted_names(directory);
  if (!names) return;
  const auto is_ours = [](const std::string& one) {
    return one == RenameStaging::kTree || one == RenameStaging::kMarker;
  };
  if (!std::all_of(names->begin(), names->end(), is_ours)) return;
  if (!names->empty() && (!has_our_marker(directory) || !remove_content(directory))) return;
  sys::unlinkat(parent, name.c_str(), AT_REMOVEDIR);
}

}  // namespace

Result<RenameStaging> RenameStaging::make(int parent) {
  const struct stat before = TRY(stat_of(parent));
  while (true) {
    std::string name = random_name();
    if (sys::mkdirat(parent, name.c_str(), 0700) != 0) {
      if (errno == EEXIST) continue;
      return failed("mkdirat", {}, name);
    }
    RenameStaging staging(parent, std::move(name), before);
    staging.after_ = TRY(stat_of(parent));
    auto directory = open_beneath(parent, staging.name_, O_RDONLY | O_DIRECTORY);
    if (!directory && directory.error().err == ENOENT)
      continue;  // taken for a stale one before it was locked
    staging.directory_ = TRY(std::move(directory));
    if (sys::flock(staging.fd(), LOCK_EX | LOCK_NB) != 0) {
      if (errno == EWOULDBLOCK) continue;
      return failed("flock", "LOCK_EX");
    }
    if (!TRY(staging.has_its_name())) continue;
    TRY(drop_acls(staging.fd()));
    TRY(write_marker(staging.fd()));
    return staging;
  }
}

Result<bool> RenameStaging::has_its_name() const {
  struct stat there {};
  if (sys::fstatat(parent_, name_.c_str(), &there, AT_SYMLINK_NOFOLLOW) != 0) {
    if (errno == ENOENT) return false;
    return failed("fstatat", {}, name_);
  }
  return there.st_ino == TRY(stat_of(fd())).st_ino;
}

RenameStaging::~RenameStaging() {
  if (is_there_) std::ignore = remove(true);
}

Result<void> RenameStaging::remove(bool as_before) {
  is_there_ = false;
  const Fd directory = std::move(directory_);
  if (directory) TRY(remove_content(directory.get()));
  auto now = stat_of(parent_);
  if (sys::unlinkat(parent_, name_.c_str(), AT_REMOVEDIR) != 0 && errno != ENOENT)
    return failed("unlinkat", "AT_REMOVEDIR", name_);
  if (!as_before || !now || now->st_mtim.tv_sec != after_.st_mtim.tv_sec ||
      now->st_mtim.tv_nsec != after_.st_mtim.tv_nsec) {
    return {};
  }
  before_.st_atim = {.tv_sec = 0, .tv_nsec = UTIME_OMIT};
  return set_times({parent_, true}, before_);
}

void remove_stale_stagings(int parent) {
  auto readable = reopen_readable(parent, {});
  auto names = readable ? sorted_names(readable->get()) : readable.error();
  if (!names) return;
  for (const std::string& name : *names) {
    if (is_staging_name(name)) remove_if_stale(parent, name);
  }
}

}  // namespace overlayfs
