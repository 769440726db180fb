#include "apply_check.h"

#include <fcntl.h>

#include <algorithm>
#include <numeric>
#include <set>
#include <unordered_set>

#include "beneath.h"
#include "proc.h"
#include "same_entry.h"
#include "status.h"
#include "view_cursor.h"

namespace overlayfs {
namespace {

// Byte order of names, so that a slash is less than whatever a name holds.
bool path_less(const std::string& a, const std::string& b) {
  return std::lexicographical_compare(a.begin(), a.end(), b.begin(), b.end(), [](char x, char y) {
    const auto rank = [](char c) { return c == '/' ? 0 : static_cast<unsigned char>(c); };
    return rank(x) < rank(y);
  });
}

bool makes_anew(ChangeKind kind) { return kind == ChangeKind::added || kind == ChangeKind::replaced; }

class Checker {
 public:
  Checker(const std::vector<ApplyChange>& changes, const MergedLayers& layers, TargetTree& target,
          const Cancel& cancel)
      : changes_(changes),
        before_(layers, 1),
        prefix_(layers.stack().xattr_prefix()),
        target_(target),
        cancel_(cancel) {}

  // The first thing that is not as it should be.
  Result<std::optional<Conflict>> look_at(const ApplyPlace& place) {
    const ApplyChange& change = changes_[place.change];
    if (place.gone) return none();
    const bool deep = change.kind == ChangeKind::deleted || change.kind == ChangeKind::replaced;
    if (change.kind == ChangeKind::renamed) {
      auto conflict = TRY(compare(place.change, *change.from, false));
      // What it would replace must be known too, should it be forced.
      if (conflict && !place.in_new && !place.vacated) TRY(absent(place));
      if (conflict || place.in_new || place.vacated) return conflict;
      return change.replaces ? compare(place.change, place.before, true) : absent(place);
    }
    if (change.kind == ChangeKind::added) return place.in_new || place.vacated ? none() : absent(place);
    // It should be in a directory that was renamed, but that stays where it was.
    if (place.in_new || (change.from && *change.from != place.before))
      return found(place.change, ConflictReason::parent, change.path, false);
    return compare(place.change, place.before, deep);
  }

 private:
  using Found = Result<std::optional<Conflict>>;

  static Found none() { return std::optional<Conflict>(); }
  static Found found(size_t change, ConflictReason reason, const std::string& path, bool forcible = true) {
    return std::optional(Conflict{change, reason, path, forcible});
  }

  Found absent(const ApplyPlace& place) {
    auto entry = target_.entry(place.before);
    if (entry) {
      TRY(target_.seen().note(entry->get()));
      return found(place.change, ConflictReason::exists, place.before);
    }
    return lookup_failed(place.change, place.before, entry.error(), false);
  }

  // What a failed look at the target says of it; not being there is a conflict only where it `should` be.
  Found lookup_failed(size_t change, const std::string& path, SysError& error, bool should) {
    switch (error.err) {
      case ENOENT:
        if (!should) return none();
        return found(change, ConflictReason::missing, path, forcible_when_missing(changes_[change], path));
      case ENOTDIR:
      case ELOOP:
        return found(change, ConflictReason::parent, path, false);
      case EXDEV:
        return found(change, ConflictReason::mount, path, false);
      default:
        return std::move(error);
    }
  }

  // What a renamed directory holds is nowhere else.
  static bool forcible_when_missing(const ApplyChange& change, const std::string& path) {
    return change.kind != ChangeKind::renamed || change.from != path || !change.directory;
  }

  Found compare(size_t change, const std::string& path, bool deep) {
    if (path.empty()) return compare_roots(change);
    MergedEntry expected = TRY(before_.lookup(path));
    auto entry = target_.entry(path);
    if (!entry) return lookup_failed(change, path, entry.error(), expected.exists());
    TRY(target_.seen().note(entry->get()));
    if (!expected.exists()) return found(change, ConflictReason::exists, path);
    const bool moves = deep || changes_[change].kind == ChangeKind::renamed || !expected.is_directory();
    if (moves && target_.holds_mount(path)) return found(change, ConflictReason::mount, path, false);
    return compare_entries(change, path, *entry, expected, deep);
  }

  Found compare_roots(size_t change) {
    const Fd root = TRY(target_.entry({}));
    TRY(target_.seen().note(root.get()));
    const int before = before_.root().front().fd->get();
    return found_if(TRY(difference_between(root.get(), before, before, prefix_, cancel_)), change, {});
  }

  Found compare_entries(size_t change, const std::string& path, const Fd& entry, const MergedEntry& expected,
                        bool deep) {
    if (cancelled(cancel_)) return SysError{ECANCELED, "openat2", "aborted", path, {}};
    const LayerEntry &meta = expected.entry(), &data = expected.data();
    if (expected.data_error != 0) return SysError{expected.data_error, "lookup", data.path(), path, {}};
    const Fd one = TRY(open_entry(meta.parent.fd->get(), meta.name));
    const Fd content = TRY(open_entry(data.parent.fd->get(), data.name));
    const auto difference = TRY(difference_between(entry.get(), one.get(), content.get(), prefix_, cancel_));
    if (difference != Difference::none) return found_if(difference, change, path);
    return deep && expected.is_directory() ? compare_trees(change, path) : none();
  }

  static Found found_if(Difference difference, size_t change, const std::string& path) {
    switch (difference) {
      case Difference::type:
        return found(change, ConflictReason::type, path);
      case Difference::content:
        return found(change, ConflictReason::content, path);
      case Difference::metadata:
        return found(change, ConflictReason::metadata, path);
      case Difference::none:
        break;
    }
    return none();
  }

  // Everything in a directory that will go: what the before-view has not got would be lost. Directories are
  // looked up again when their turn comes: a descriptor for each that waits would be too many.
  Found compare_trees(size_t change, const std::string& top) {
    std::vector<std::string> waiting{top};
    while (!waiting.empty()) {
      const std::string at = std::move(waiting.back());
      waiting.pop_back();
      const MergedDirectory directory = TRY(before_.lookup(at)).directory();
      const Fd opened = TRY(open_beneath(target_.root(), at, O_RDONLY | O_DIRECTORY));
      std::set<std::string> names = TRY(ViewCursor::names_in(directory));
      DirectoryStream stream;
      stream.start(opened.get());
      while (const char* name = stream.next()) names.insert(name);
      if (stream.error() != 0) return SysError{stream.error(), "getdents64", {}, at, {}};
      for (const std::string& name : names) {
        std::string inner = at;
        inner.append("/").append(name);
        const MergedEntry expected = TRY(before_.lookup_in(directory, name));
        if (expected.refused) return refusal_error(*expected.refused, inner);
        auto entry = open_beneath(opened.get(), name, O_PATH);
        if (!entry && entry.error().err == ENOENT) {
          if (expected.exists()) return found(change, ConflictReason::content, inner);
          continue;  // a name that a whiteout hides
        }
        if (!entry) return lookup_failed(change, inner, entry.error(), true);
        if (!expected.exists()) return found(change, ConflictReason::content, inner);
        TRY(target_.seen().note(entry->get()));
        if (auto conflict = TRY(compare_entries(change, inner, *entry, expected, false))) return conflict;
        if (expected.is_directory()) waiting.push_back(inner);
      }
    }
    return none();
  }

  const std::vector<ApplyChange>& changes_;
  ViewCursor before_;
  std::string prefix_;
  TargetTree& target_;
  const Cancel& cancel_;
};

}  // namespace

std::vector<ApplyPlace> place_changes(const std::vector<ApplyChange>& changes) {
  std::vector<size_t> order(changes.size());
  std::iota(order.begin(), order.end(), size_t{0});
  const auto less = [&](size_t a, size_t b) { return path_less(changes[a].path, changes[b].path); };
  if (!std::is_sorted(order.begin(), order.end(), less)) std::stable_sort(order.begin(), order.end(), less);
  std::unordered_set<std::string> renamed;
  for (const ApplyChange& change : changes) {
    if (change.kind == ChangeKind::renamed) renamed.insert(*change.from);
  }
  std::vector<ApplyPlace> places;
  places.reserve(changes.size());
  std::vector<size_t> above;  // the changes of the directories that lead here
  for (const size_t index : order) {
    const ApplyChange& change = changes[index];
    while (!above.empty() && !is_below(change.path, changes[above.back()].path)) above.pop_back();
    ApplyPlace place{index, change.path};
    if (!above.empty()) {
      const ApplyChange& parent = changes[above.back()];
      if (parent.kind == ChangeKind::renamed)
        place.before = *parent.from + change.path.substr(parent.path.size());
      else
        place.in_new = true;
      place.gone = change.kind == ChangeKind::deleted && parent.kind != ChangeKind::renamed;
    }
    place.vacated = !place.in_new && renamed.contains(place.before);
    if (makes_anew(change.kind) || change.kind == ChangeKind::deleted || change.kind == ChangeKind::renamed)
      above.push_back(index);
    places.push_back(std::move(place));
  }
  return places;
}

Result<std::vector<Conflict>> find_conflicts(const std::vector<ApplyChange>& changes, size_t given,
                                             const std::vector<ApplyPlace>& places,
                                             const MergedLayers& layers, TargetTree& target,
                                             const Cancel& cancel, std::atomic<uint64_t>& done) {
  std::vector<Conflict> conflicts;
  Checker checker(changes, layers, target, cancel);
  for (const ApplyPlace& place : places) {
    if (place.change >= given) continue;
    if (cancelled(cancel)) return SysError{ECANCELED, "openat2", "aborted", changes[place.change].path, {}};
    if (auto conflict = TRY(checker.look_at(place))) conflicts.push_back(*std::move(conflict));
    done.fetch_add(1, std::memory_order_relaxed);
  }
  return conflicts;
}

}  // namespace overlayfs
