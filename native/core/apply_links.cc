#include "apply_links.h"

#include <fcntl.h>

#include <map>
#include <unordered_set>

#include "apply_check.h"
#include "beneath.h"
#include "proc.h"
#include "same_entry.h"
#include "status.h"
#include "sys.h"
#include "tree_place.h"
#include "view_cursor.h"

namespace overlayfs {
namespace {

using InodeKey = std::pair<uint64_t, uint64_t>;
struct LinkGroup {
  uint64_t number = 0;
  uint32_t links = 0, named = 0;
};

InodeKey key_of(const abi::Statx& status) { return {device_of(status), status.ino}; }

// Of the upper: those that have names which are not among the changes.
Result<std::map<InodeKey, LinkGroup>> open_groups(const std::vector<ApplyChange>& changes,
                                                  ViewCursor& after) {
  std::map<InodeKey, LinkGroup> groups;
  for (const ApplyChange& change : changes) {
    if (!change.link_group || change.kind == ChangeKind::deleted || change.directory) continue;
    const MergedEntry entry = TRY(after.lookup(change.path));
    if (!entry.exists() || entry.is_directory()) continue;
    const abi::Statx& status = entry.entry().status;
    LinkGroup& group = groups[key_of(status)];
    group.number = *change.link_group;
    group.links = status.nlink;
    ++group.named;
  }
  std::erase_if(groups, [](const auto& one) { return one.second.named >= one.second.links; });
  return groups;
}

// The names in the upper, which are those of the after-view.
Result<std::vector<ApplyChange>> other_names(const Fd& upper, const std::map<InodeKey, LinkGroup>& groups,
                                             const std::unordered_set<std::string>& named,
                                             const Cancel& cancel) {
  std::vector<ApplyChange> found;
  const auto open_top = [](int root, const std::string& path, int flags) {
    return open_beneath(root, path, flags);
  };
  TreePlaces places(upper.get(), O_RDONLY | O_DIRECTORY, open_top);
  std::vector<TreePlacePtr> waiting{std::make_shared<TreePlace>(nullptr, std::string())};
  DirectoryStream stream;
  while (!waiting.empty()) {
    const TreePlacePtr at = std::move(waiting.back());
    waiting.pop_back();
    if (cancelled(cancel)) return SysError{ECANCELED, "getdents64", "aborted", {}, {}};
    const std::shared_ptr<const Fd> directory = TRY(places.open(*at));
    stream.start(directory->get());
    while (const char* name = stream.next()) {
      struct stat status {};
      if (sys::fstatat(directory->get(), name, &status, AT_SYMLINK_NOFOLLOW) != 0) continue;  // it has gone
      if (S_ISDIR(status.st_mode)) {
        waiting.push_back(std::make_shared<TreePlace>(at, name));
        continue;
      }
      const auto group = groups.find({status.st_dev, status.st_ino});
      if (group == groups.end()) continue;
      std::string path = path_in_tree(at.get(), name);
      if (named.contains(path)) continue;
      ApplyChange& change = found.emplace_back();
      change.kind = ChangeKind::metadata;
      change.path = std::move(path);
      change.link_group = group->second.number;
    }
    if (stream.error() != 0)
      return SysError{stream.error(), "getdents64", {}, path_in_tree(at.get(), {}), {}};
  }
  return found;
}

// Whether the target has under one name what the after-view has under another; nothing is there: no.
Result<bool> is_same(const std::string& in_target, const std::string& path, ViewCursor& after,
                     TargetTree& target, const std::string& prefix, Reading reading, const Cancel& cancel) {
  const MergedEntry entry = TRY(after.lookup(path));
  auto there = target.entry(in_target);
  if (!entry.exists() || entry.data_error != 0 || !there) return false;
  TRY(target.seen().note(there->get()));
  const LayerEntry &meta = entry.entry(), &data = entry.data();
  const Fd metadata = TRY(open_entry(meta.parent.fd->get(), meta.name));
  const Fd content = TRY(open_entry(data.parent.fd->get(), data.name));
  const auto status = TRY(status_of(there->get(), {}));
  if (status->mtime != meta.status.mtime) return false;
  return TRY(difference_between(there->get(), metadata.get(), content.get(), prefix, cancel, reading)) ==
         Difference::none;
}

// The groups of an index; those of which nothing has changed, by what was renamed as it was. Whether a name
// differs does not say so: another inode may have had it. What is linked to it is never compared again, so
// its content is read.
Result<KeptInodes> kept_inodes(const std::vector<ApplyChange>& changes, const MergedLayers& layers,
                               ViewCursor& after, TargetTree& target, const Cancel& cancel) {
  KeptInodes kept;
  if (!layers.reads_index()) return kept;
  std::map<uint64_t, InodeKey> known;  // the inode of the target that is the group's
  for (size_t index = 0; index < changes.size(); ++index) {
    const ApplyChange& change = changes[index];
    if (!change.link_group) continue;
    std::vector<KeptName>& names = kept[*change.link_group];
    if (change.kind != ChangeKind::renamed || change.fields || change.directory) continue;
    auto there = target.entry(*change.from);
    if (!there) continue;
    const InodeKey key = key_of(*TRY(status_of(there->get(), {})));
    const auto same = known.find(*change.link_group);
    const bool is_known = same != known.end() && same->second == key;
    if (!is_known && !TRY(is_same(*change.from, change.path, after, target, layers.stack().xattr_prefix(),
                                  Reading::always, cancel)))
      continue;
    known[*change.link_group] = key;
    names.push_back({*change.from, index});
  }
  return kept;
}

}  // namespace

Result<void> complete_link_groups(std::vector<ApplyChange>& changes, const MergedLayers& layers,
                                  TargetTree& target, KeptInodes& inodes, const Cancel& cancel) {
  if (!layers.has_upper()) return {};
  ViewCursor after(layers, 0);
  inodes = TRY(kept_inodes(changes, layers, after, target, cancel));
  const std::map<InodeKey, LinkGroup> groups = TRY(open_groups(changes, after));
  if (groups.empty()) return {};
  std::unordered_set<std::string> named;
  for (const ApplyChange& change : changes) named.insert(change.path);
  const size_t given = changes.size();
  for (ApplyChange& change : TRY(other_names(*layers.root_of(0), groups, named, cancel)))
    changes.push_back(std::move(change));
  std::vector<bool> kept(changes.size(), true);
  for (const ApplyPlace& place : place_changes(changes)) {
    if (place.change < given) continue;
    const ApplyChange& change = changes[place.change];
    const auto inode = inodes.find(*change.link_group);
    const bool links = inode != inodes.end();
    // A name that the caller has left out although it differs stays as it is.
    kept[place.change] = !place.in_new && !place.vacated &&
                         TRY(is_same(place.before, change.path, after, target, layers.stack().xattr_prefix(),
                                     links ? Reading::always : Reading::in_doubt, cancel));
    if (!kept[place.change] || !links) continue;
    // The others are linked to it, rather than it to them.
    inode->second.push_back({place.before, std::nullopt});
    kept[place.change] = false;
  }
  size_t to = given;
  for (size_t at = given; at < changes.size(); ++at) {
    if (kept[at] && to++ != at) changes[to - 1] = std::move(changes[at]);
  }
  changes.resize(to);
  return {};
}

}  // namespace overlayfs
