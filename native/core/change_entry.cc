#include "change_entry.h"

#include <sys/stat.h>

#include <algorithm>
#include <array>

#include "entry_compare.h"
#include "status.h"
#include "xattr_at.h"

namespace overlayfs {
namespace {

bool is_at_or_below(std::string_view path, std::string_view top) {
  return path.starts_with(top) && (top.empty() || path.size() == top.size() || path[top.size()] == '/');
}
bool any_above(const std::vector<std::string>& tops, std::string_view path) {
  return std::any_of(tops.begin(), tops.end(),
                     [&](const std::string& top) { return is_at_or_below(path, top); });
}
bool any_below(const std::vector<std::string>& paths, std::string_view top) {
  return std::any_of(paths.begin(), paths.end(),
                     [&](const std::string& path) { return is_at_or_below(path, top); });
}

uint64_t shown_size(const abi::Statx& status) {
  return S_ISREG(status.mode) || S_ISLNK(status.mode) ? status.size : 0;
}
std::optional<uint64_t> shown_previous_size(const abi::Statx& status) {
  return S_ISREG(status.mode) || S_ISLNK(status.mode) ? std::optional(status.size) : std::nullopt;
}

Change upper_change(const std::string& path, ChangeKind kind, const abi::Statx& status) {
  Change change;
  change.path = path;
  change.kind = kind;
  change.type = entry_type(status.mode);
  change.size = shown_size(status);
  change.allocated = status.blocks * 512;
  change.source_layer = 0;
  if (!S_ISDIR(status.mode) && status.nlink > 1) change.link_group = status.ino;
  return change;
}

// What an overlay that keeps its attributes in the other namespace has left to be read.
bool has_marks_of(const UpperEntry& entry, const std::string& prefix) {
  if (entry.xattrs.find(prefix) == std::string::npos) return false;
  constexpr std::array marks{"opaque", "redirect", "metacopy", "whiteout"};
  return std::any_of(marks.begin(), marks.end(), [&](const char* mark) { return entry.has(prefix + mark); });
}

constexpr uint32_t kIndexSource = 0xfffffffe;
uint32_t source_layer(const LayerEntry& entry) {
  return entry.layer() == kIndexLayer ? kIndexSource : static_cast<uint32_t>(entry.layer());
}

}  // namespace

struct ChangeEntries::Compared {
  Differences differ;
  ChangeKind kind = ChangeKind::metadata;
};

TreeDirectoryPtr ChangeEntries::look_at(const std::string& name, bool again) {
  path_ = join_path(open_->path, name);
  again_ = again;
  if (any_above(context_.options.exclude, path_)) return nullptr;
  const auto& include = context_.options.include;
  if (!include.empty() && !any_above(include, path_) && !any_below(include, path_)) return nullptr;
  auto below = directory_->role == TreeRole::added && context_.renames.from(path_) == nullptr ? added(name)
                                                                                              : entry(name);
  if (below) return *below;
  // It has gone between two calls.
  if (below.error().err == ENOENT)
    context_.changed_meanwhile = true;
  else
    report(std::move(below).error());
  return nullptr;
}

void ChangeEntries::emit(Change& change) {
  if (again_) return;
  const auto& include = context_.options.include;
  const bool sweeping = change.kind == ChangeKind::deleted || change.kind == ChangeKind::replaced ||
                        change.kind == ChangeKind::renamed;
  if (!include.empty() && !any_above(include, path_) && !sweeping) return;
  std::string from;
  const bool was_here = change.kind != ChangeKind::added && change.kind != ChangeKind::renamed;
  if (was_here && directory_->has_before && open_->before != open_->path) {
    from = before_path(path_.substr(open_->path.empty() ? 0 : open_->path.size() + 1));
    change.from = from;
    change.has_from = true;
  }
  pieces_.records().add(change);
}

void ChangeEntries::report(SysError error, std::optional<Refused> refused, const char* artefact) {
  if (again_) return;
  pieces_.records().errors.push_back({path_, std::move(error), std::move(refused), artefact});
}

TreeDirectoryPtr ChangeEntries::child(const std::string& name, TreeRole role, const abi::Statx* upper,
                                      const MergedDirectory& lowers, std::optional<std::string> before) {
  return MergedTree::child(directory_, *open_, name, role, upper, lowers, std::move(before));
}

void ChangeEntries::root() {
  path_ = ".";
  const auto look = [&]() -> Result<void> {
    auto entry = TRY(look_at_upper(context_, *open_, ".", true));
    if (!entry || open_->lowers.empty()) return {};
    const LayerDirectory& top = open_->lowers.front();
    const auto status = TRY(status_of(top.fd->get(), {}));
    if (!status) return {};
    const LayerEntry before{top, ".", EntryForm::directory, *status, Opaque::no, {}, {}};
    const Compared compared =
        TRY(compare(".", entry->status, open_->upper->get(), entry->xattrs, before, before, nullptr));
    uint32_t fields = compared.differ.fields;
    if (!context_.options.dir_times && compared.differ.xattrs.empty() && fields == change_field::MTIME)
      fields = 0;
    if (fields == 0 && compared.differ.xattrs.empty() && context_.options.compare != Compare::none) return {};
    Change change = upper_change(path_, ChangeKind::metadata, entry->status);
    change.fields = compared.differ.fields;
    change.xattrs = compared.differ.xattrs;
    change.source_path = "";
    change.has_source_path = true;
    const auto& options = context_.options;
    const bool included = options.include.empty() || any_above(options.include, {});
    if (included && !any_above(options.exclude, {})) pieces_.records().add(change);
    return {};
  };
  if (auto looked = look(); !looked) report(std::move(looked).error());
}

Result<TreeDirectoryPtr> ChangeEntries::entry(const std::string& name) {
  if (!open_->upper) {
    if (directory_->role == TreeRole::deleted) return gone(name);
    return context_.linked.contains(path_) ? (TRY(linked(name)), TreeDirectoryPtr()) : way_to_linked(name);
  }
  // What is compared: what was here, or elsewhere.
  const bool wants_xattrs = !open_->was.empty() || context_.renames.from(path_) != nullptr;
  auto found = TRY(look_at_upper(context_, *open_, name, wants_xattrs));
  if (!found || (found->is_whiteout && open_->was.empty())) {
    if (found) return TreeDirectoryPtr();
    if (context_.linked.contains(path_)) {
      TRY(linked(name));
      return TreeDirectoryPtr();
    }
    return context_.linked.empty() ? TreeDirectoryPtr() : way_to_linked(name);
  }
  if (found->is_whiteout) return gone(name);
  if (check_foreign(name, *found)) return TreeDirectoryPtr();
  if (found->is_directory()) return upper_directory(name, *std::move(found));
  return upper_file(name, *found);
}

// What is only in the before-view.
Result<TreeDirectoryPtr> ChangeEntries::gone(const std::string& name) {
  const auto before = TRY(look_before(context_, *open_, name));
  if (!before) return TreeDirectoryPtr();
  if (before->refused) {
    report({}, before->refused);
    return TreeDirectoryPtr();
  }
  if (context_.renames.moved(before_path(name))) return TreeDirectoryPtr();
  Change change;
  change.path = path_;
  change.kind = ChangeKind::deleted;
  const abi::Statx& status = before->found.front().status;
  change.type = entry_type(status.mode);
  change.previous_size = shown_previous_size(status);
  emit(change);
  return gone_below(name, *before);
}

// With a directory went all that it held, but for what was renamed.
TreeDirectoryPtr ChangeEntries::gone_below(const std::string& name, const MergedEntry& before) {
  const bool told = context_.options.expand && before.is_directory();
  if (!told || context_.renames.moved(before_path(name))) return nullptr;
  return child(name, TreeRole::deleted, nullptr, before.directory());
}

// A name in a directory that is new with all that lies in it, or of one that it hides.
Result<TreeDirectoryPtr> ChangeEntries::added(const std::string& name) {
  const MergedEntry entry = TRY(context_.layers().lookup(open_->view, name));
  if (entry.refused) {
    report({}, entry.refused);
    return TreeDirectoryPtr();
  }
  if (!entry.exists()) return gone(name);
  const auto here = TRY(look_before(context_, *open_, name));
  const LayerEntry& top = entry.entry();
  Change change = upper_change(path_, ChangeKind::added, top.status);
  if (here && here->exists()) {
    change.kind = ChangeKind::replaced;
    change.previous_type = entry_type(here->found.front().status.mode);
    change.previous_size = shown_previous_size(here->found.front().status);
  }
  if (top.layer() != 0) {
    change.allocated = 0;
    change.link_group.reset();
  }
  const std::string path = entry.data().path();
  change.source_layer = source_layer(entry.data());
  change.source_path = path;
  change.has_source_path = path != path_;
  emit(change);
  if (!entry.is_directory()) return here ? gone_below(name, *here) : TreeDirectoryPtr();
  const bool hides = here && here->is_directory() && !context_.renames.moved(before_path(name));
  return MergedTree::child(directory_, *open_, name, TreeRole::added,
                           top.layer() == 0 ? &top.status : nullptr, entry.directory(), {},
                           hides ? here->directory() : MergedDirectory());
}

Result<TreeDirectoryPtr> ChangeEntries::upper_directory(const std::string& name, UpperEntry entry) {
  UpperDirectory directory{std::move(entry), {}, {}, {}, {}, {}};
  TRY(place_directory(context_, *directory_, *open_, name, directory));
  if (directory.refused) {
    report({}, directory.refused);
    return TreeDirectoryPtr();
  }
  const abi::Statx& status = directory.entry.status;
  const std::string* renamed = directory.from ? context_.renames.from(path_) : nullptr;
  const auto& here = directory.here;
  const bool was_here = here && here->exists();
  Change change = upper_change(path_, was_here ? ChangeKind::replaced : ChangeKind::added, status);
  if (was_here) change.previous_type = entry_type(here->found.front().status.mode);
  if (directory.base && (renamed != nullptr || !directory.from)) {
    const Compared compared = TRY(compare(name, status, open_->upper->get(), directory.entry.xattrs,
                                          *directory.base, *directory.base, nullptr));
    change.kind = ChangeKind::metadata;
    change.fields = compared.differ.fields;
    change.xattrs = compared.differ.xattrs;
    change.previous_type = EntryType::none;
    if (renamed != nullptr) {
      change.kind = ChangeKind::renamed;
      change.from = *renamed;
      change.has_from = true;
      if (was_here) change.replaces = entry_type(here->found.front().status.mode);
    }
    const bool times_alone = change.fields == change_field::MTIME && change.xattrs.empty();
    const bool same = !compared.differ.any() || (times_alone && !context_.options.dir_times);
    if (renamed != nullptr || !same || context_.options.compare == Compare::none) emit(change);
    return child(name, TreeRole::merged, &status, directory.lowers, std::move(directory.from));
  }
  emit(change);
  const bool told = context_.options.expand && was_here && here->is_directory() &&
                    !context_.renames.moved(before_path(name));
  // A redirect that is not told as a rename: all that shows through is new here.
  if (directory.from || told)
    return MergedTree::child(directory_, *open_, name, TreeRole::added, &status, directory.lowers, {},
                             told ? here->directory() : MergedDirectory());
  return child(name, TreeRole::merged, &status, {});
}

Result<TreeDirectoryPtr> ChangeEntries::upper_file(const std::string& name, const UpperEntry& entry) {
  const abi::Statx& status = entry.status;
  const auto here = TRY(look_before(context_, *open_, name));
  if (here && here->refused) {
    report({}, here->refused);
    return TreeDirectoryPtr();
  }
  const bool metacopy = S_ISREG(status.mode) && entry.has(context_.own("metacopy"));
  Change change = upper_change(path_, ChangeKind::added, status);
  MergedEntry whole;
  std::string source_path;
  if (metacopy) {
    whole = TRY(context_.layers().lookup(open_->view, name));
    if (whole.refused) {
      report({}, whole.refused);
      return TreeDirectoryPtr();
    }
    if (!whole.exists()) return TreeDirectoryPtr();
    change.source_layer = source_layer(whole.data());
    source_path = whole.data().path();
    change.source_path = source_path;
    change.has_source_path = source_path != path_;
    if (whole.data_error != 0) change.source_layer.reset();
  }
  const std::string* renamed = context_.renames.from(path_);
  std::optional<MergedEntry> origin;
  if (renamed != nullptr) origin = TRY(look_before_at(context_, *renamed));
  Compared compared;  // holds the names of xattrs until the change is told
  const auto against = [&](const MergedEntry& before) -> Result<void> {
    compared = TRY(compare(name, status, open_->upper->get(), entry.xattrs, before.entry(), before.data(),
                           metacopy ? &whole.data() : nullptr));
    change.kind = compared.kind;
    change.fields = compared.differ.fields;
    change.xattrs = compared.differ.xattrs;
    change.previous_size = shown_previous_size(before.entry().status);
    return {};
  };
  const EntryType before_type = here ? entry_type(here->entry().status.mode) : EntryType::none;
  if (origin && origin->exists()) {
    TRY(against(*origin));
    change.kind = ChangeKind::renamed;
    change.from = *renamed;
    change.has_from = true;
    change.replaces = before_type;
  } else if (here && (before_type != change.type || directory_->role != TreeRole::merged)) {
    change.kind = ChangeKind::replaced;
    change.previous_type = before_type;
    change.previous_size = shown_previous_size(here->entry().status);
  } else if (here) {
    TRY(against(*here));
    if (!compared.differ.any() && context_.options.compare != Compare::none) {
      if (!context_.renames.moved(before_path(name))) return TreeDirectoryPtr();
      // Another one that looks the same.
      change.kind = ChangeKind::replaced;
      change.previous_type = before_type;
    }
  }
  emit(change);
  return here ? gone_below(name, *here) : TreeDirectoryPtr();
}

Result<ChangeEntries::Compared> ChangeEntries::compare(const std::string& name, const abi::Statx& status,
                                                       int directory, std::string_view xattrs,
                                                       const LayerEntry& before,
                                                       const LayerEntry& before_data,
                                                       const LayerEntry* moved_data) const {
  Compared compared;
  Differences& differ = compared.differ;
  const Compare how = context_.options.compare;
  const bool file = S_ISREG(status.mode);
  differ.fields = compare_status(status, before.status);
  if (how == Compare::none) {
    compared.kind = file && moved_data == nullptr ? ChangeKind::modified : ChangeKind::metadata;
    return compared;
  }
  const int before_directory = before.parent.fd->get();
  const EntryPlace now{directory, name, status}, then{before_directory, before.name, before.status};
  differ.xattrs = TRY(compare_xattrs(now, xattrs, then, context_.prefix));
  const bool times_differ = (differ.fields & change_field::MTIME) != 0;
  bool other = (differ.fields & change_field::RDEV) != 0;
  if (S_ISLNK(status.mode) && !TRY(same_target(now, then))) {
    differ.fields |= change_field::TARGET;
    other = true;
  }
  // A metacopy file has the data that was there before, unless it was renamed.
  const bool same_data = moved_data != nullptr && moved_data->layer() == before_data.layer() &&
                         moved_data->path() == before_data.path();
  if (file && !same_data) {
    const bool sizes_differ = (differ.fields & change_field::SIZE) != 0;
    const bool read = !sizes_differ && (how == Compare::content || (!times_differ && is_ambiguous(status)));
    const EntryPlace data{before_data.parent.fd->get(), before_data.name, before_data.status};
    const EntryPlace now_data = moved_data == nullptr ? now
                                                      : EntryPlace{moved_data->parent.fd->get(),
                                                                   moved_data->name, moved_data->status};
    if (sizes_differ || (read && !TRY(same_content(now_data, data, context_.cancelled))))
      differ.fields |= change_field::CONTENT;
    other = (differ.fields & change_field::CONTENT) != 0 || (times_differ && !read);
  }
  if (other) compared.kind = ChangeKind::modified;
  return compared;
}

// What this stack does not stand for is an error rather than a guess. With nothing below it is neither: the
// layers of another overlay, kept in this one.
bool ChangeEntries::check_foreign(const std::string& name, const UpperEntry& entry) {
  const bool covers = !open_->lowers.empty();
  const char* artefact = "";
  if (covers && entry.xattrs.find("user.fuseoverlayfs.") != std::string::npos)
    artefact = "fuse-overlayfs";
  else if (covers && name.starts_with(".wh.") && S_ISREG(entry.status.mode) && entry.status.size == 0)
    artefact = "aufs";
  else if (!context_.layers().stack().work && entry.has(context_.own("nlink")))
    artefact = "nlink";
  else if (covers &&
           has_marks_of(entry, context_.layers().stack().userxattr ? "trusted.overlay." : "user.overlay."))
    artefact = context_.layers().stack().userxattr ? "trusted" : "userxattr";
  if (*artefact == '\0') return false;
  report({}, {}, artefact);
  return true;
}

// A lower file that the index says was changed under another name.
Result<void> ChangeEntries::linked(const std::string& name) {
  const MergedEntry entry = TRY(context_.layers().lookup(open_->view, name));
  if (!entry.exists() || !entry.index) return {};
  const LayerEntry& now = *entry.index;
  std::string xattrs;
  TRY(list_xattr_names(now.parent.fd->get(), now.name, xattrs));
  const MergedEntry before = TRY(context_.layers().lookup_below(open_->lowers, 1, name));
  if (!before.exists()) return {};
  const bool metacopy = now.form == EntryForm::metacopy;
  const Compared compared = TRY(compare(now.name, now.status, now.parent.fd->get(), xattrs, before.entry(),
                                        before.data(), metacopy ? &before.data() : nullptr));
  if (!compared.differ.any() && context_.options.compare != Compare::none) return {};
  Change change = upper_change(path_, compared.kind, now.status);
  change.link_group = now.status.ino;
  change.fields = compared.differ.fields;
  change.xattrs = compared.differ.xattrs;
  change.previous_size = shown_previous_size(before.entry().status);
  const LayerEntry& data = metacopy ? before.data() : now;
  const std::string source_path = data.path();
  change.source_layer = source_layer(data);
  change.source_path = source_path;
  change.has_source_path = source_path != path_;
  emit(change);
  return {};
}

// A directory that only the lowers have, on the way to such a file.
Result<TreeDirectoryPtr> ChangeEntries::way_to_linked(const std::string& name) {
  const auto entry = TRY(look_before(context_, *open_, name));
  if (!entry || !entry->is_directory()) return TreeDirectoryPtr();
  return child(name, TreeRole::merged, nullptr, entry->directory());
}

}  // namespace overlayfs
