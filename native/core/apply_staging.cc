#include "apply_staging.h"

#include <fcntl.h>
#include <sys/file.h>

#include <algorithm>
#include <array>
#include <string_view>
#include <tuple>
#include <utility>

#include "beneath.h"
#include "copy_entry.h"
#include "mount_info.h"
#include "proc.h"
#include "recorded_tree.h"
#include "remove_tree.h"
#include "rename.h"
#include "status.h"
#include "sys.h"
#include "write_all.h"

namespace overlayfs {
namespace {

// In the target's root: at work; done, and to be removed; and what could not be put back, which is never
// touched again.
constexpr const char *kAtWork = "#overlayfs-apply", *kDone = "#overlayfs-applied", *kLeft = "#overlayfs-left";
constexpr const char* kRecord = "record";
constexpr const char* kMarker = "readme";
constexpr std::string_view kMarkerText =
    "The npm package overlayfs applies changes to the directory above, or was killed over it. What it has "
    "taken\n"
    "out of there lies here: the next call for that directory puts it back.\n";
constexpr size_t kNoChange = ~size_t{0};

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

bool is_inode_of_target(const std::string& staged) {
  return staged.starts_with(kMoved) || staged.starts_with(kLinked);
}

// Under a name that no run ever clears; the same one, if that cannot be.
std::string set_aside(int parent, const char* name) {
  for (int i = 0; i < 1000; ++i) {
    std::string left = std::string(kLeft) + "-" + std::to_string(i);
    auto done = rename_noreplace({parent, name}, {parent, left});
    if (done) return left;
    if (done.error().err != EEXIST) break;
  }
  return name;
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

bool is_below(const std::string& path, const std::string& directory) {
  if (directory.empty()) return !path.empty();
  return path.size() > directory.size() && path.starts_with(directory) && path[directory.size()] == '/';
}

Result<TargetTree> TargetTree::open(const DirectoryRef& ref) {
  TargetTree tree;
  const Fd path = TRY(open_directory(ref));
  tree.root_ = TRY(reopen_readable(path.get(), ref.shown()));
  tree.identity_ = TRY(identify(tree.root_.get(), ref.shown()));
  if (sys::flock(tree.root_.get(), LOCK_EX | LOCK_NB) != 0) return failed("flock", "LOCK_EX", ref.shown());
  const std::string name = canonical_path(tree.root_.get());
  for (const std::string& point : TRY(mounts_below({name}))) {
    if (is_below(point, name == "/" ? "" : name))
      tree.mounts_.push_back(point.substr(name == "/" ? 1 : name.size() + 1));
  }
  return tree;
}

Result<int> TargetTree::directory(const std::string& path) {
  if (path.empty()) return root_.get();
  if (!last_ || last_path_ != path) {
    last_ = TRY(open_beneath(root_.get(), path, O_PATH | O_DIRECTORY));
    last_path_ = path;
  }
  return last_.get();
}

Result<Fd> TargetTree::entry(const std::string& path) {
  if (path.empty()) return open_beneath(root_.get(), path, O_PATH | O_DIRECTORY);
  return open_beneath(TRY(directory(parent_of(path))), name_of(path), O_PATH);
}

bool TargetTree::holds_mount(const std::string& path) const {
  return std::any_of(mounts_.begin(), mounts_.end(),
                     [&](const std::string& mount) { return mount == path || is_below(mount, path); });
}

Result<void> TargetTree::note(int entry) {
  seen_.note(*TRY(status_of(entry, {})));
  return {};
}

bool ApplyStaging::is_reserved(const std::string& path) {
  const std::string top = path.substr(0, path.find('/'));
  return top == kAtWork || top == kDone;
}

Result<bool> ApplyStaging::recover(TargetTree& target, std::vector<std::string>& left) {
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
  if (!at_work) return done;
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
  TRY(remove_ours(target.root(), kAtWork));
  return true;
}

Result<ApplyStaging> ApplyStaging::create(TargetTree& target) {
  ApplyStaging staging(target);
  staging.root_ = TRY(stat_of(target.root()));
  auto made = make_ours(target.root(), kAtWork);
  auto opened = made ? open_beneath(target.root(), kAtWork, O_RDONLY | O_DIRECTORY)
                     : Result<Fd>(std::move(made).error());
  if (!opened) {
    if (opened.error().err != EEXIST) std::ignore = remove_tree(target.root(), kAtWork);
    return std::move(opened).error();
  }
  staging.directory_ = *std::move(opened);
  return staging;
}

Result<void> ApplyStaging::record(const std::vector<Taking>& takings) {
  if (takings.empty()) return {};
  std::string text;
  for (const Taking& one : takings)
    (((text += one.staged) += '\0') += one.before).append(1, '\0').append(one.after).append(1, '\0');
  const Fd file(sys::openat(directory_.get(), kRecord, O_CREAT | O_APPEND | O_WRONLY | O_NOFOLLOW, 0600));
  if (!file) return failed("openat", kRecord);
  return write_all(file.get(), text);
}

Result<void> ApplyStaging::touch(const std::string& directory, bool quiet) {
  const auto known = touched_.find(directory);
  if (known != touched_.end()) {
    known->second.quiet = known->second.quiet && quiet;
  } else {
    const struct stat before = TRY(stat_of(TRY(target_->directory(directory))));
    touched_.emplace(directory, Touched{before, quiet});
    if (!directory.empty()) log_.push_back({Step::times, kNoChange, directory, {}, before});
  }
  if (directory.empty() && !quiet) root_touched_ = true;
  return {};
}

Result<void> ApplyStaging::restore_times() {
  for (const auto& [path, touched] : touched_) {
    if (touched.quiet && !path.empty()) TRY(set_times(path, touched.before));
  }
  return {};
}

Result<void> ApplyStaging::take(size_t change, const std::string& path, const std::string& staged) {
  if (target_->holds_mount(path)) return SysError{EXDEV, "openat2", "a mount", path, {}};
  TRY(touch(parent_of(path), false));
  const DirectoryEntry there{TRY(target_->directory(parent_of(path))), name_of(path)};
  const abi::Statx before = TRY(leaving(there, path));
  TRY(rename_noreplace(there, {directory_.get(), staged}));
  log_.push_back({Step::taken, change, path, staged, {}});
  target_->forget();
  return has_left(before, staged, path);
}

SysError ApplyStaging::was_edited(const std::string& path) {
  edited_ = path;
  return {ESTALE, "statx", "changed since it was compared", path, {}};
}

Result<abi::Statx> ApplyStaging::leaving(const DirectoryEntry& there, const std::string& path) {
  const auto status = TRY(status_of(there.directory, there.name));
  if (!status || !target_->seen().has(*status)) return was_edited(path);
  return *status;
}

Result<void> ApplyStaging::has_left(const abi::Statx& before, const std::string& staged,
                                    const std::string& path) {
  const auto status = TRY(status_of(directory_.get(), staged));
  if (!status || !looks_the_same(*status, before)) return was_edited(path);
  target_->seen().note_moved(*status);
  return {};
}

// It may have other names, which may have to leave too.
Result<void> ApplyStaging::has_moved(const DirectoryEntry& there) {
  if (const auto status = TRY(status_of(there.directory, there.name))) target_->seen().note_moved(*status);
  return {};
}

Result<void> ApplyStaging::still_as_seen(const std::string& path) {
  const auto status = TRY(status_of(TRY(target_->entry(path)).get(), {}));
  return status && target_->seen().has(*status) ? Result<void>() : was_edited(path);
}

// What has moved on to its new place is lost to nobody.
Result<void> ApplyStaging::verify_one(const Action& action, bool with_content) {
  const auto status = TRY(status_of(directory_.get(), action.staged));
  if (!status) return {};
  if (!target_->seen().has(*status)) return was_edited(action.path);
  return with_content && S_ISDIR(status->mode) ? verify_tree(action.staged, action.path) : Result<void>();
}

// Names that have gone from it are nobody's loss: what renames have taken out is among them.
Result<void> ApplyStaging::verify_tree(const std::string& staged, const std::string& path) {
  std::vector<std::string> waiting{staged};
  DirectoryStream stream;
  while (!waiting.empty()) {
    const std::string at = std::move(waiting.back());
    waiting.pop_back();
    const Fd directory = TRY(open_beneath(directory_.get(), at, O_RDONLY | O_DIRECTORY));
    stream.start(directory.get());
    while (const char* name = stream.next()) {
      const auto status = TRY(status_of(directory.get(), name));
      if (!status) continue;
      const std::string inner = at + '/' + name;
      if (!target_->seen().has(*status)) return was_edited(path + inner.substr(staged.size()));
      if (S_ISDIR(status->mode)) waiting.push_back(inner);
    }
    if (stream.error() != 0) return SysError{stream.error(), "getdents64", {}, path, {}};
  }
  return {};
}

Result<void> ApplyStaging::put(size_t change, const std::string& staged, const std::string& path,
                               bool exchange, bool quiet) {
  if (exchange && target_->holds_mount(path)) return SysError{EXDEV, "openat2", "a mount", path, {}};
  TRY(touch(parent_of(path), quiet));
  const int parent = TRY(target_->directory(parent_of(path)));
  const DirectoryEntry here{directory_.get(), staged}, there{parent, name_of(path)};
  if (exchange) {
    const abi::Statx before = TRY(leaving(there, path));
    if (TRY(rename_exchange(here, there))) {
      log_.push_back({Step::exchanged, change, path, staged, {}});
      if (is_inode_of_target(staged)) TRY(has_moved(there));
      target_->forget();
      return has_left(before, staged, path);
    }
    const std::string old = staged + "-old";
    TRY(record({{old, path, {}, false}}));
    TRY(take(change, path, old));
    return put(change, staged, path, false, quiet);
  }
  if (auto done = rename_noreplace(here, there); !done) {
    if (done.error().err == EEXIST) return was_edited(path);
    return done;
  }
  log_.push_back({Step::put, change, path, staged, {}});
  if (is_inode_of_target(staged)) TRY(has_moved(there));
  target_->forget();
  return {};
}

Result<std::vector<std::string>> ApplyStaging::set_metadata(size_t change, const std::string& path,
                                                            Inode source, const struct stat& status,
                                                            const MetadataOptions& options) {
  const Fd entry = TRY(target_->entry(path));
  const Fd directory = TRY(reopen_readable(entry.get(), path));
  const struct stat before = TRY(stat_of(directory.get()));
  const std::string backup = "b" + std::to_string(change);
  if (sys::mkdirat(directory_.get(), backup.c_str(), 0700) != 0) return failed("mkdirat", backup);
  const Fd kept = TRY(open_beneath(directory_.get(), backup, O_RDONLY | O_DIRECTORY));
  TRY(equalise_metadata({directory.get(), false}, {kept.get(), false}, before, {}));
  metadata_.private_prefix = options.private_prefix;
  log_.push_back({Step::metadata, change, path, backup, before});
  if (path.empty()) root_touched_ = true;
  return equalise_metadata(source, {directory.get(), false}, status, options);
}

Result<void> ApplyStaging::set_times(const std::string& path, const struct stat& status) {
  if (path.empty()) {
    root_ = status;
    root_touched_ = false;  // that is what it has in the end
    return {};
  }
  const Fd entry = TRY(target_->entry(path));
  return overlayfs::set_times({entry.get(), true}, status);
}

Result<void> ApplyStaging::commit() {
  return rename_noreplace({target_->root(), kAtWork}, {target_->root(), kDone});
}

std::optional<std::string> ApplyStaging::clear() {
  if (!remove_ours(target_->root(), kDone)) return set_aside(target_->root(), kDone);
  if (!root_touched_) std::ignore = overlayfs::set_times({target_->root(), false}, root_);
  return std::nullopt;
}

Result<void> ApplyStaging::undo_one(const Action& action) {
  target_->forget();
  if (action.step == Step::times) {
    const Fd entry = TRY(target_->entry(action.path));
    return overlayfs::set_times({entry.get(), true}, action.status);
  }
  if (action.step == Step::metadata) {
    const Fd entry = TRY(target_->entry(action.path));
    const Fd directory = TRY(reopen_readable(entry.get(), action.path));
    const Fd kept = TRY(open_beneath(directory_.get(), action.staged, O_RDONLY | O_DIRECTORY));
    TRY(equalise_metadata({kept.get(), false}, {directory.get(), false}, action.status, metadata_));
    return {};
  }
  const int parent = TRY(target_->directory(parent_of(action.path)));
  const DirectoryEntry here{directory_.get(), action.staged}, there{parent, name_of(action.path)};
  if (action.step == Step::taken) return rename_noreplace(here, there);
  if (action.step == Step::put) return rename_noreplace(there, here);
  return TRY(rename_exchange(here, there)) ? Result<void>()
                                           : SysError{EINVAL, "renameat2", {}, action.path, {}};
}

ApplyStaging::Undone ApplyStaging::undo() {
  Undone undone;
  bool whole = true;
  for (auto action = log_.rbegin(); action != log_.rend(); ++action) {
    if (undo_one(*action)) continue;
    if (action->step == Step::times) continue;
    whole = false;
    if (action->change != kNoChange) undone.kept.push_back(action->change);
  }
  target_->forget();
  if (whole) {
    if (!remove_ours(target_->root(), kAtWork)) undone.left = set_aside(target_->root(), kAtWork);
    std::ignore = overlayfs::set_times({target_->root(), false}, root_);
    return undone;
  }
  undone.left = set_aside(target_->root(), kAtWork);
  return undone;
}

Result<std::vector<std::string>> equalise_metadata(Inode from, Inode to, const struct stat& status,
                                                   const MetadataOptions& options) {
  const std::vector<Xattr> wanted = TRY(xattrs_of(from.fd));
  for (const Xattr& present : TRY(xattrs_of(to.fd))) {
    const std::string& name = present.first;
    const bool own = !options.private_prefix.empty() && name.starts_with(options.private_prefix);
    const bool kept =
        std::any_of(wanted.begin(), wanted.end(), [&](const Xattr& one) { return one.first == name; });
    if (own || kept || name.starts_with("security.")) continue;
    if (sys::fremovexattr(to.fd, name.c_str()) != 0 && errno != ENODATA) return failed("fremovexattr", name);
  }
  return copy_metadata(from, to, status, options);
}

}  // namespace overlayfs
