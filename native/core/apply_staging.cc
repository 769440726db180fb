#include "apply_staging.h"

#include <fcntl.h>

#include <algorithm>
#include <tuple>
#include <utility>

#include "beneath.h"
#include "proc.h"
#include "remove_tree.h"
#include "rename.h"
#include "status.h"
#include "sys.h"

namespace overlayfs {
namespace {

constexpr size_t kNoChange = ~size_t{0};

bool is_inode_of_target(const std::string& staged) {
  return staged.starts_with(kMoved) || staged.starts_with(kLinked);
}

}  // namespace

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
  if (!status || !TRY(target_->seen().has(*status, there.directory, there.name))) return was_edited(path);
  return *status;
}

Result<void> ApplyStaging::has_left(const abi::Statx& before, const std::string& staged,
                                    const std::string& path) {
  const auto status = TRY(status_of(directory_.get(), staged));
  if (!status || !looks_the_same(*status, before)) return was_edited(path);
  return target_->seen().note_moved(*status, directory_.get(), staged);
}

Result<void> ApplyStaging::link(const std::string& path, const DirectoryEntry& here) {
  const DirectoryEntry there{TRY(target_->directory(parent_of(path))), name_of(path)};
  const abi::Statx before = TRY(leaving(there, path));
  if (sys::linkat(there.directory, there.name.c_str(), here.directory, here.name.c_str(), 0) != 0)
    return failed("linkat", {}, path);
  const auto status = TRY(status_of(here.directory, here.name));
  if (!status || !looks_the_same(*status, before)) return was_edited(path);
  return target_->seen().note_moved(*status, here.directory, here.name);
}

// It may have other names, which may have to leave too.
Result<void> ApplyStaging::has_moved(const DirectoryEntry& there) {
  const auto status = TRY(status_of(there.directory, there.name));
  return status ? target_->seen().note_moved(*status, there.directory, there.name) : Result<void>();
}

Result<void> ApplyStaging::still_as_seen(const std::string& path) {
  const Fd entry = TRY(target_->entry(path));
  const auto status = TRY(status_of(entry.get(), {}));
  return TRY(target_->seen().has(*status, entry.get(), {})) ? Result<void>() : was_edited(path);
}

// What has moved on to its new place is lost to nobody.
Result<void> ApplyStaging::verify_one(const Action& action, bool with_content) {
  const auto status = TRY(status_of(directory_.get(), action.staged));
  if (!status) return {};
  if (!TRY(target_->seen().has(*status, directory_.get(), action.staged))) return was_edited(action.path);
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
      if (!TRY(target_->seen().has(*status, directory.get(), name)))
        return was_edited(path + inner.substr(staged.size()));
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
    const std::string old = kGone + staged.substr(1) + "-old";
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
