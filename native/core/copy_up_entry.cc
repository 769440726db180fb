#include <fcntl.h>

#include <algorithm>

#include "copy_up.h"
#include "file_handle.h"
#include "sys.h"
#include "tree_path.h"
#include "xattr.h"

namespace overlayfs {
namespace {

constexpr size_t kKnownDirectories = 256;
constexpr const char* kPresent = "it is in the upper already";
constexpr const char* kCapability = "security.capability";

SysError refused_error(const Refused& refused) {
  return {refused.err, "lookup", "refused by the stack's options or by what lies in a layer", {}, {}};
}

std::string not_taken(const std::vector<std::string>& dropped) {
  std::string reason;
  for (const std::string& name : dropped) reason += (reason.empty() ? "" : ", ") + name;
  return reason.empty() ? reason : "the upper's file system does not take " + reason;
}

Result<std::shared_ptr<const Fd>> open_shared(int parent, const std::string& name) {
  Fd opened(sys::openat(parent, name.c_str(), O_PATH | O_DIRECTORY | O_NOFOLLOW));
  if (!opened) return failed("openat", "O_PATH | O_DIRECTORY | O_NOFOLLOW", name);
  return std::make_shared<const Fd>(std::move(opened));
}

Result<Source> open_entry(const LayerEntry& entry) {
  return open_source(TRY(open_beneath(entry.parent.fd->get(), entry.name, O_PATH)));
}

Result<Source> open_part(const LayerDirectory& part) {
  Fd copy(sys::dup_fd(part.fd->get()));
  if (!copy) return failed("fcntl", "F_DUPFD_CLOEXEC");
  return open_source(std::move(copy));
}

// The file of a metacopy entry in the upper, open for writing.
Result<Fd> open_for_data(const LayerEntry& entry, struct stat* st) {
  const Fd path = TRY(open_beneath(entry.parent.fd->get(), entry.name, O_PATH));
  if (sys::fstatat(path.get(), "", st, AT_EMPTY_PATH) != 0) return failed("fstatat");
  if (!S_ISREG(st->st_mode)) return SysError{ESTALE, "fstatat", "no regular file any more", {}, {}};
  Fd writable(sys::openat(AT_FDCWD, fd_name(path.get()).c_str(), O_RDWR));
  if (!writable) return failed("openat", "O_RDWR");
  return writable;
}

}  // namespace

Result<std::optional<CopyUpResult>> CopyUp::carry_out(const Task& task, const Cancel& cancel,
                                                      CopyUpRefusal* refusal) {
  CopyUpResult result{task.order, task.path, {}, {}};
  if (task.path.empty()) {
    TRY(copy_directory_up(TRY(directory({})), &result));
    return std::optional(std::move(result));
  }
  const DirectoryPtr parent = task.parent ? task.parent : TRY(directory(parent_of(task.path)));
  const std::string name = name_of(task.path);
  const MergedEntry entry = TRY(layers_.lookup(parent->merged, name));
  if (entry.refused) return refused_error(*entry.refused);
  if (!entry.exists()) {
    if (!task.named) return std::optional<CopyUpResult>();  // whited out
    return SysError{ENOENT, "lookup", {}, {}, {}};
  }
  if (entry.is_directory())
    TRY(copy_directory_up(TRY(child(parent, task.path, entry.directory())), &result));
  else
    TRY(copy_file_up(*parent, name, entry, options_for(cancel), refusal, &result));
  return std::optional(std::move(result));
}

Result<void> CopyUp::copy_directory_up(const DirectoryPtr& directory, CopyUpResult* result) {
  TRY(ensure_upper(*directory));
  if (directory->made) result->data = CopiedData{};
  result->reason = directory->made ? not_taken(directory->dropped) : kPresent;
  if (!order_.recursive) return {};
  const std::lock_guard lock(mutex_);
  tasks_.push_front({.path = result->path, .parent = {}, .list = directory});
  return {};
}

Result<void> CopyUp::copy_file_up(Directory& parent, const std::string& name, const MergedEntry& entry,
                                  const CopyOptions& options, CopyUpRefusal* refusal, CopyUpResult* result) {
  const LayerEntry& top = entry.entry();
  if (entry.data_error != 0) return SysError{entry.data_error, "openat", "no layer has its data", {}, {}};
  if (top.layer() == 0) {
    if (top.form == EntryForm::metacopy)
      result->data = TRY(complete_metacopy(entry, options.control, refusal));
    else
      result->reason = kPresent;
    return {};
  }
  const Source source = TRY(open_entry(top));
  CopyOptions complete = options;
  // Under index=on the kernel links what has several names through the index.
  if (source.stat.st_nlink > 1 && layers_.stack().index) {
    *refusal = CopyUpRefusal::has_index;
    return SysError{EMLINK, "fstatat", "index", {}, {}};
  }
  // Without one, a copy breaks the link, and has no origin that it could share.
  if (source.stat.st_nlink == 1) TRY(add_origin(source, top.layer(), &complete));
  TRY(make_ready(parent));
  auto copied = top.form == EntryForm::metacopy
                    ? copy_file(source, TRY(open_entry(entry.data())), parent.upper->get(), name, complete)
                    : copy_entry(source, parent.upper->get(), name, complete);
  if (!copied && copied.error().err == EEXIST) {
    result->reason = kPresent;  // named twice
    return {};
  }
  const CopiedEntry done = TRY(std::move(copied));
  TRY(set_times({parent.upper->get(), true}, parent.times));
  result->data = done.data;
  result->reason = not_taken(done.dropped);
  return {};
}

// The kernel does this before the first write: the data, durable, and then no attribute any more that says it
// is elsewhere.
Result<CopiedData> CopyUp::complete_metacopy(const MergedEntry& entry, const CopyControl& control,
                                             CopyUpRefusal* refusal) {
  struct stat st {};
  const Fd to = TRY(open_for_data(entry.entry(), &st));
  if (TRY(xattr_of(to.get(), layers_.xattr("nlink")))) {
    *refusal = CopyUpRefusal::work_needed;
    return SysError{EMLINK, "getxattr", layers_.xattr("nlink"), {}, {}};
  }
  const Inode file{to.get(), false};
  const auto capability = TRY(xattr_of(to.get(), kCapability));
  const Source from = TRY(open_entry(entry.data()));
  auto data = copy_data(from.fd.get(), to.get(), static_cast<uint64_t>(st.st_size), control);
  // What has failed leaves no data that nobody reads.
  if (!data && sys::ftruncate(to.get(), 0) == 0) sys::ftruncate(to.get(), st.st_size);
  // Writing strips these.
  const auto restore = [&]() -> Result<void> {
    if (sys::fchmod(to.get(), st.st_mode & 07777) != 0) return failed("fchmod");
    if (capability) TRY(set_xattr(file, kCapability, *capability));
    return set_times(file, st);
  };
  auto restored = restore();
  if (!data) return std::move(data).error();
  TRY(std::move(restored));
  if (sys::fsync(to.get()) != 0) return failed("fsync");
  if (sys::fremovexattr(to.get(), layers_.xattr("metacopy").c_str()) != 0)
    return failed("removexattr", layers_.xattr("metacopy"));
  return data;
}

CopyUp::DirectoryPtr CopyUp::known_directory(const std::string& path) {
  const std::lock_guard lock(resolving_);
  const auto known = directories_.find(path);
  return known == directories_.end() ? nullptr : known->second;
}

// From the top down, name by name: a path may be longer than what a stack of calls would take.
Result<CopyUp::DirectoryPtr> CopyUp::directory(const std::string& path) {
  if (auto known = known_directory(path)) return known;
  DirectoryPtr at = TRY(child(nullptr, {}, layers_.root()));
  for (size_t start = 0; start < path.size();) {
    const size_t end = std::min(path.find('/', start), path.size());
    const std::string there = path.substr(0, end);
    DirectoryPtr next = known_directory(there);
    if (!next) {
      const MergedEntry entry = TRY(layers_.lookup(at->merged, path.substr(start, end - start)));
      if (entry.refused) return refused_error(*entry.refused);
      if (!entry.exists()) return SysError{ENOENT, "lookup", {}, {}, {}};
      if (!entry.is_directory()) return SysError{ENOTDIR, "lookup", {}, {}, {}};
      next = TRY(child(at, there, entry.directory()));
    }
    at = std::move(next);
    start = end + 1;
  }
  return at;
}

// One object for each directory, whichever thread comes first.
Result<CopyUp::DirectoryPtr> CopyUp::child(const DirectoryPtr& parent, const std::string& path,
                                           MergedDirectory merged) {
  const std::lock_guard lock(resolving_);
  if (const auto known = directories_.find(path); known != directories_.end()) return known->second;
  if (directories_.size() >= kKnownDirectories)
    std::erase_if(directories_, [](const auto& known) { return known.second.use_count() == 1; });
  auto made = std::make_shared<Directory>();
  made->parent = parent;
  made->name = name_of(path);
  made->merged = std::move(merged);
  if (made->merged.front().layer == 0) {
    made->upper = made->merged.front().fd;
    if (sys::fstatat(made->upper->get(), "", &made->times, AT_EMPTY_PATH) != 0) return failed("fstatat");
  }
  directories_.emplace(path, made);
  return made;
}

// Its own and those of all directories above it that have none yet, the topmost first.
Result<void> CopyUp::ensure_upper(Directory& directory) {
  std::vector<Directory*> missing;
  for (Directory* at = &directory; at != nullptr; at = at->parent.get()) {
    const std::lock_guard lock(at->making);
    if (at->upper) break;
    missing.push_back(at);
  }
  for (auto at = missing.rbegin(); at != missing.rend(); ++at) TRY(make_upper(**at));
  return {};
}

Result<void> CopyUp::make_upper(Directory& directory) {
  const std::lock_guard lock(directory.making);
  if (directory.upper) return {};  // by another thread
  Directory& parent = *directory.parent;
  TRY(mark_impure(parent));
  const LayerDirectory& top = directory.merged.front();
  const Source source = TRY(open_part(top));
  CopyOptions options = options_for(nullptr);
  TRY(add_origin(source, top.layer, &options));
  directory.dropped = TRY(copy_entry(source, parent.upper->get(), directory.name, options)).dropped;
  TRY(set_times({parent.upper->get(), true}, parent.times));
  directory.upper = TRY(open_shared(parent.upper->get(), directory.name));
  directory.times = source.stat;
  directory.made = true;
  return {};
}

// In the upper, and marked as holding what has an origin.
Result<void> CopyUp::make_ready(Directory& directory) {
  TRY(ensure_upper(directory));
  return mark_impure(directory);
}

Result<void> CopyUp::mark_impure(Directory& directory) {
  const std::lock_guard lock(directory.making);
  if (directory.impure) return {};
  const int upper = directory.upper->get();
  if (const auto mark = TRY(xattr_of(upper, layers_.xattr("impure"))); !mark || *mark != "y") {
    auto marked = set_xattr({upper, true}, layers_.xattr("impure"), "y");
    // Without attributes there are no origins either.
    if (!marked && marked.error().err != EOPNOTSUPP) return marked;
  }
  directory.impure = true;
  return {};
}

CopyOptions CopyUp::options_for(const Cancel& cancel) {
  CopyOptions options;
  options.metadata.private_prefix = layers_.stack().xattr_prefix();
  options.metadata.protattr = true;
  options.control = {cancel, &order_.progress->bytes};
  options.staging = staging_->directory();
  return options;
}

// ovl_set_origin(): empty where the kernel could not find the origin again.
Result<void> CopyUp::add_origin(const Source& source, size_t layer, CopyOptions* options) const {
  std::string origin;
  if (decodes_handles_) {
    auto handle = file_handle(source.fd.get(), {});
    if (handle)
      origin = encode_overlay_handle(*handle, uuids_[layer], false);
    else if (handle.error().err != EOPNOTSUPP)
      return std::move(handle).error();
  }
  options->metadata.extra.emplace_back(layers_.xattr("origin"), std::move(origin));
  return {};
}

}  // namespace overlayfs
