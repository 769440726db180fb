#include <fcntl.h>

#include <algorithm>

#include "copy_up.h"
#include "file_handle.h"
#include "sys.h"
#include "tree_path.h"
#include "xattr.h"

namespace overlayfs {
namespace {

constexpr const char* kPresent = "it is in the upper already";
constexpr const char* kCapability = "security.capability";

std::string not_taken(const std::vector<std::string>& dropped) {
  std::string reason;
  for (const std::string& name : dropped) reason += (reason.empty() ? "" : ", ") + name;
  return reason.empty() ? reason : "the upper's file system does not take " + reason;
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

SysError CopyUp::refused_error(const Refused& refused) {
  return {refused.err, "lookup", "refused by the stack's options or by what lies in a layer", {}, {}};
}

Result<std::optional<CopyUpResult>> CopyUp::carry_out(const Task& task, const Cancel& cancel,
                                                      CopyUpRefusal* refusal) {
  CopyUpResult result{task.order, path_of(task), {}, {}};
  if (result.path.empty()) {
    TRY(copy_directory_up(TRY(directory({})), &result));
    return std::optional(std::move(result));
  }
  const DirectoryPtr parent = task.parent ? task.parent : TRY(directory(parent_of(task.name)));
  const std::string name = task.parent ? task.name : name_of(task.name);
  const OpenDirectory open_parent = TRY(opened(*parent));
  const MergedEntry entry = TRY(layers_.lookup(*open_parent, name));
  if (entry.refused) return refused_error(*entry.refused);
  if (!entry.exists()) {
    if (task.parent) return std::optional<CopyUpResult>();  // listed, but whited out
    return SysError{ENOENT, "lookup", {}, {}, {}};
  }
  if (entry.is_directory())
    TRY(copy_directory_up(TRY(child(parent, *open_parent, name, entry)), &result));
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
  tasks_.push_front({.name = {}, .parent = {}, .list = directory});
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
  const std::shared_ptr<const Fd> upper = TRY(make_ready(parent));
  auto copied = top.form == EntryForm::metacopy
                    ? copy_file(source, TRY(open_entry(entry.data())), upper->get(), name, complete)
                    : copy_entry(source, upper->get(), name, complete);
  if (!copied && copied.error().err == EEXIST) {
    result->reason = kPresent;  // named twice
    return {};
  }
  const CopiedEntry done = TRY(std::move(copied));
  TRY(set_times({upper->get(), true}, parent.times));
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

// Its own and those of all directories above it that have none yet, the topmost first.
Result<void> CopyUp::ensure_upper(Directory& directory) {
  std::vector<Directory*> missing;
  for (Directory* at = &directory; at != nullptr; at = at->parent.get()) {
    const std::lock_guard lock(at->making);
    if (at->in_upper) break;
    missing.push_back(at);
  }
  for (auto at = missing.rbegin(); at != missing.rend(); ++at) TRY(make_upper(**at));
  return {};
}

Result<void> CopyUp::make_upper(Directory& directory) {
  const std::lock_guard lock(directory.making);
  if (directory.in_upper) return {};  // by another thread
  Directory& parent = *directory.parent;
  TRY(mark_impure(parent));
  const OpenDirectory open_directory = TRY(opened(directory));
  const LayerDirectory& top = open_directory->front();
  const Source source = TRY(open_part(top));
  CopyOptions options = options_for(nullptr);
  TRY(add_origin(source, top.layer, &options));
  const std::shared_ptr<const Fd> upper = TRY(upper_of(parent));
  directory.dropped = TRY(copy_entry(source, upper->get(), directory.name, options)).dropped;
  TRY(set_times({upper->get(), true}, parent.times));
  struct stat made {};
  if (sys::fstatat(upper->get(), directory.name.c_str(), &made, AT_SYMLINK_NOFOLLOW) != 0)
    return failed("fstatat");
  directory.upper_inode = made.st_ino;
  directory.times = source.stat;
  directory.made = directory.in_upper = true;
  return {};
}

// In the upper, and marked as holding what has an origin.
Result<std::shared_ptr<const Fd>> CopyUp::make_ready(Directory& directory) {
  TRY(ensure_upper(directory));
  TRY(mark_impure(directory));
  return upper_of(directory);
}

Result<void> CopyUp::mark_impure(Directory& directory) {
  const std::lock_guard lock(directory.making);
  if (directory.impure) return {};
  const std::shared_ptr<const Fd> opened = TRY(upper_of(directory));
  const int upper = opened->get();
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
