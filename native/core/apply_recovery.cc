#include "apply_recovery.h"

#include <fcntl.h>

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

#include "beneath.h"
#include "proc.h"
#include "recorded_tree.h"
#include "remove_tree.h"
#include "rename.h"
#include "status.h"
#include "sys.h"
#include "tree_path.h"
#include "write_all.h"

namespace overlayfs {
namespace {

constexpr const char* kRecord = "record";
constexpr const char* kMarker = "readme";
constexpr std::string_view kMarkerText =
    "The npm package overlayfs applies changes to the directory above, or was killed over it. What it has "
    "taken\n"
    "out of there lies here: the next call for that directory puts it back.\n";

Result<bool> is_there(int directory, const std::string& name) {
  struct stat status {};
  if (sys::fstatat(directory, name.c_str(), &status, AT_SYMLINK_NOFOLLOW) == 0) return true;
  if (errno == ENOENT) return false;
  return failed("fstatat", {}, name);
}

// A directory of that name that holds something else is its maker's. The marker comes first and goes last.
Result<bool> is_ours(int parent, const std::string& name) {
  auto opened = open_beneath(parent, name, O_RDONLY | O_DIRECTORY);
  if (!opened && (opened.error().err == ENOTDIR || opened.error().err == ELOOP)) return false;
  const Fd directory = TRY(std::move(opened));
  const struct stat status = TRY(stat_of(directory.get()));
  if (status.st_uid != ::geteuid() || (status.st_mode & 0777) != 0700) return false;
  const std::vector<std::string> names = TRY(sorted_names(directory.get()));
  if (names.empty()) return true;
  auto marker = open_beneath(directory.get(), kMarker, O_RDONLY | O_NONBLOCK);
  if (!marker) return false;
  std::array<char, kMarkerText.size() + 1> text;
  const ssize_t size = sys::read(marker->get(), text.data(), text.size());
  if (size < 0) return false;
  const std::string_view read(text.data(), static_cast<size_t>(size));
  return read == kMarkerText || (names.size() == 1 && kMarkerText.starts_with(read));
}

// Whoever may write to the target may have written the record: what it names must not lead out of there.
bool is_one_name(const std::string& name) {
  return !name.empty() && name != "." && name != ".." && name.find('/') == std::string::npos;
}

// The record of a run that was killed; what it had not finished writing is about nothing that it had taken.
Result<std::vector<Taking>> read_record(int staging) {
  auto file = open_beneath(staging, kRecord, O_RDONLY | O_NONBLOCK);
  if (!file && file.error().err == ENOENT) return std::vector<Taking>();
  if (!file) return std::move(file).error();
  if (!S_ISREG(TRY(stat_of(file->get())).st_mode))
    return SysError{EINVAL, "fstatat", "no regular file", kRecord, {}};
  std::string text;
  if (const int error = read_whole(file->get(), text); error != 0)
    return SysError{error, "read", kRecord, {}, {}};
  std::vector<std::string> words;
  for (size_t at = 0, end; (end = text.find('\0', at)) != std::string::npos; at = end + 1)
    words.push_back(text.substr(at, end - at));
  std::vector<Taking> takings;
  for (size_t i = 0; i + 2 < words.size(); i += 3) {
    if (!is_one_name(words[i]) || name_of(words[i + 1]) == ".." || name_of(words[i + 2]) == "..")
      return SysError{EEXIST, "renameat2", words[i], words[i + 1], {}};
    takings.push_back({words[i], words[i + 1], words[i + 2], words[i].starts_with(kMoved)});
  }
  return takings;
}

}  // namespace

bool is_reserved(const std::string& path) {
  const std::string top = path.substr(0, path.find('/'));
  return top == kAtWork || top == kDone;
}

Result<void> make_ours(int parent, const char* name) {
  if (sys::mkdirat(parent, name, 0700) != 0) return failed("mkdirat", name);
  const Fd directory = TRY(open_beneath(parent, name, O_RDONLY | O_DIRECTORY));
  // Nothing that is made in it is to have a default ACL of the target's.
  for (const char* acl : {"system.posix_acl_default", "system.posix_acl_access"}) {
    if (sys::fremovexattr(directory.get(), acl) != 0 && errno != ENODATA && errno != EOPNOTSUPP)
      return failed("fremovexattr", acl);
  }
  if (sys::fchmod(directory.get(), 0700) != 0) return failed("fchmod", name);
  const Fd marker(sys::openat(directory.get(), kMarker, O_CREAT | O_EXCL | O_WRONLY | O_NOFOLLOW, 0600));
  if (!marker) return failed("openat", kMarker);
  return write_all(marker.get(), std::string(kMarkerText));
}

Result<void> remove_ours(int parent, const std::string& name) {
  {
    const Fd directory = TRY(open_beneath(parent, name, O_RDONLY | O_DIRECTORY));
    for (const std::string& inner : TRY(sorted_names(directory.get()))) {
      if (inner != kMarker) TRY(remove_tree(directory.get(), inner));
    }
  }
  return remove_tree(parent, name);
}

std::string set_aside(int parent, const char* name) {
  for (int i = 0; i < 1000; ++i) {
    std::string left = std::string(kLeft) + "-" + std::to_string(i);
    auto done = rename_noreplace({parent, name}, {parent, left});
    if (done) return left;
    if (done.error().err != EEXIST) break;
  }
  return name;
}

Result<void> record_takings(int staging, const std::vector<Taking>& takings) {
  if (takings.empty()) return {};
  std::string text;
  for (const Taking& one : takings)
    (((text += one.staged) += '\0') += one.before).append(1, '\0').append(one.after).append(1, '\0');
  const Fd file(sys::openat(staging, kRecord, O_CREAT | O_APPEND | O_WRONLY | O_NOFOLLOW, 0600));
  if (!file) return failed("openat", kRecord);
  return write_all(file.get(), text);
}

Result<void> recover_target(TargetTree& target, std::vector<std::string>& left) {
  const bool done = TRY(is_there(target.root(), kDone)), at_work = TRY(is_there(target.root(), kAtWork));
  for (const auto& [name, there] : {std::pair(kDone, done), std::pair(kAtWork, at_work)}) {
    if (there && !TRY(is_ours(target.root(), name))) return SysError{EEXIST, "mkdirat", "not ours", name, {}};
  }
  if (done) {
    if (auto removed = remove_ours(target.root(), kDone); !removed) {
      left.push_back(set_aside(target.root(), kDone));
      if (left.back() == kDone) return std::move(removed).error();
    }
  }
  if (!at_work) return {};
  const Fd staging = TRY(open_beneath(target.root(), kAtWork, O_PATH | O_DIRECTORY));
  std::vector<Taking> takings = TRY(read_record(staging.get()));
  // What was taken last was nearest to the root: the others go back into it.
  std::reverse(takings.begin(), takings.end());
  for (const Taking& taking : takings) {
    if (!TRY(is_there(staging.get(), taking.staged))) continue;
    bool back = false, taken = false;
    for (const std::string* path : {&taking.before, &taking.after}) {
      if (back || path->empty()) continue;
      target.forget();
      auto parent = target.directory(parent_of(*path));
      auto put = parent ? rename_noreplace({staging.get(), taking.staged}, {*parent, name_of(*path)})
                        : Result<void>(std::move(parent).error());
      back = static_cast<bool>(put);
      taken = taken || (!put && put.error().err == EEXIST);
    }
    // Where its name is taken, the run had put there what was to replace it.
    const bool replaced = taken && !taking.moves;
    if (!back && !replaced) return SysError{EEXIST, "renameat2", taking.staged, taking.before, {}};
  }
  target.forget();
  return remove_ours(target.root(), kAtWork);
}

}  // namespace overlayfs
