#include "change_context.h"

#include <sys/stat.h>

#include "status.h"
#include "xattr_at.h"

namespace overlayfs {

Result<std::shared_ptr<OrderedWork>> ChangeContext::start(std::unique_ptr<OrderedWork::Task> first,
                                                          bool in_order) {
  auto started_work = std::make_shared<OrderedWork>(in_order);
  const std::scoped_lock lock(working);
  if (cancelled) return SysError{ECANCELED, "getdents64", {}, {}, {}};
  if (const int error = started_work->start(std::move(first), options.threads); error != 0)
    return SysError{error, "pthread_create", {}, {}, {}};
  work = started_work;
  return started_work;
}

Result<std::vector<ChangeError>> ChangeContext::run(std::unique_ptr<OrderedWork::Task> first) {
  const auto running = TRY(start(std::move(first), false));
  ChangeRecords found;
  for (bool ended = false; !ended;) {
    OrderedWork::Batch batch = running->take();
    found.append(std::move(batch.records));
    ended = batch.ended;
  }
  running->wait_until_still();
  if (cancelled) return SysError{ECANCELED, "getdents64", {}, {}, {}};
  return std::move(found.errors);
}

void ChangeContext::cancel() {
  const std::scoped_lock lock(working);
  cancelled = true;
  if (work) work->cancel();
}

bool UpperEntry::has(const std::string& xattr) const {
  const size_t found = xattrs.find(xattr.c_str(), 0, xattr.size() + 1);
  return found != std::string::npos && (found == 0 || xattrs[found - 1] == '\0');
}

bool UpperEntry::is_directory() const { return S_ISDIR(status.mode); }

Result<std::optional<UpperEntry>> look_at_upper(const ChangeContext& context,
                                                const OpenTreeDirectory& directory, const std::string& name,
                                                bool wants_xattrs) {
  std::optional<UpperEntry> entry(std::in_place);
  const int upper = directory.upper->get();
  auto status = TRY(status_of(upper, name));
  if (!status) return std::optional<UpperEntry>();
  entry->status = *status;
  const uint16_t mode = status->mode;
  if (S_ISCHR(mode) && status->rdev_major == 0 && status->rdev_minor == 0) {
    entry->is_whiteout = true;
    return entry;
  }
  // Regular files may be metacopy files, and directories anything.
  if (!wants_xattrs && !S_ISREG(mode) && !S_ISDIR(mode)) return entry;
  auto listed = list_xattr_names(upper, name, entry->xattrs);
  if (!listed && listed.error().err == ENOENT) return std::optional<UpperEntry>();
  if (!listed) return std::move(listed).error();
  entry->is_whiteout = S_ISREG(mode) && status->size == 0 && entry->has(context.own("whiteout"));
  return entry;
}

namespace {

// What cannot be read is not told as if it were not there, whatever the kernel makes of it.
Result<void> check_marks(const MergedEntry& entry) {
  for (const LayerEntry& one : entry.found) {
    if (one.opaque_error != 0)
      return SysError{one.opaque_error, "getxattr", "overlay.opaque", one.path(), {}};
  }
  return {};
}

}  // namespace

Result<std::optional<MergedEntry>> look_before(const ChangeContext& context,
                                               const OpenTreeDirectory& directory, const std::string& name) {
  if (directory.was.empty()) return std::optional<MergedEntry>();
  MergedEntry entry = TRY(context.layers().lookup_below(directory.was, 1, name));
  TRY(check_marks(entry));
  if (!entry.refused && !entry.exists()) return std::optional<MergedEntry>();
  return std::optional(std::move(entry));
}

Result<std::optional<MergedEntry>> look_before_at(const ChangeContext& context, const std::string& path) {
  MergedDirectory directory = context.layers().root(1);
  for (size_t at = 0;;) {
    const size_t end = std::min(path.find('/', at), path.size());
    MergedEntry entry = TRY(context.layers().lookup_below(directory, 1, path.substr(at, end - at)));
    if (!entry.exists()) return std::optional<MergedEntry>();
    if (end == path.size()) return std::optional(std::move(entry));
    if (!entry.is_directory()) return std::optional<MergedEntry>();
    directory = entry.directory();
    at = end + 1;
  }
}

Result<void> place_directory(const ChangeContext& context, const TreeDirectory& parent,
                             const OpenTreeDirectory& open, const std::string& name,
                             UpperDirectory& directory) {
  const auto& here = directory.here = TRY(look_before(context, open, name));
  const UpperEntry& entry = directory.entry;
  if (!entry.has(context.own("opaque")) && !entry.has(context.own("redirect"))) {
    if (parent.role != TreeRole::merged || !here) return {};
    if (here->refused) {
      directory.refused = here->refused;
    } else if (here->is_directory()) {
      directory.lowers = here->directory();
      directory.base = here->found.front();
    }
    return {};
  }
  MergedEntry full = TRY(context.layers().lookup(open.view, name));
  TRY(check_marks(full));
  directory.refused = std::move(full.refused);
  if (directory.refused || full.found.size() < 2) return {};
  directory.lowers = full.directory();
  directory.lowers.erase(directory.lowers.begin());
  directory.base = full.found[1];
  const auto& redirect = full.found.front().redirect;
  if (!redirect) return {};
  const Redirect target = *read_redirect(*redirect);
  std::string from =
      target.absolute() ? std::string(target.path.substr(1)) : join_path(open.before, target.path);
  const bool in_place =
      parent.role == TreeRole::merged && parent.has_before && from == join_path(open.before, name);
  if (!in_place) directory.from = std::move(from);
  return {};
}

}  // namespace overlayfs
